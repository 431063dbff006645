import { TRPCError } from '@trpc/server';

/**
 * Settings calls answer in words instead of failing.
 *
 * @template {object | void} T
 * @param {() => Promise<T>} work
 */
export async function attempt(work) {
  try {
    return { success: true, ...(await work()) };
  } catch (error) {
    if (error instanceof TRPCError) throw error;
    return { success: false, error: error instanceof Error ? error.message : String(error) };
  }
}
