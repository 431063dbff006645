import { setTimeout as sleep } from 'node:timers/promises';
import { TRPCError } from '@trpc/server';

/**
 * Failures on request, for tests. The header x-fault names one for the whole request (`reset-after-commit`), or one
 * for each procedure (`session.updateTitle=reset-after-commit, config.save=hang-before-commit`):
 *
 *   hang-*      the answer never comes
 *   reset-*     the connection is reset
 *   crash-*     the process is killed
 *   error-*     the call fails with status 500
 *   delay-*:MS  the call waits for that many milliseconds
 *   truncate-after-commit   the answer breaks off in the middle
 *
 * each `-before-commit` or `-after-commit`. A query is over before anything could be committed.
 */

/** @typedef {'before-commit' | 'after-commit'} Point */

const FAULTS = ['hang', 'reset', 'crash', 'error', 'delay', 'truncate'];

/** @param {string | string[] | undefined} header @param {string} procedure */
export function requestedFault(header, procedure) {
  const wishes = String(header ?? '').split(',').map((wish) => wish.trim()).filter(Boolean);
  for (const wish of wishes) {
    const [fault, only] = wish.split('=').reverse();
    if (only !== undefined && only !== procedure) continue;
    const match = /^(\w+)-(before|after)-commit(?::(\d+))?$/.exec(fault);
    if (!match || !FAULTS.includes(match[1])) throw new TRPCError({ code: 'BAD_REQUEST', message: `Unknown fault "${fault}"` });
    return { kind: match[1], point: /** @type {Point} */ (`${match[2]}-commit`), milliseconds: Number(match[3] ?? 0) };
  }
  return null;
}

/**
 * @param {ReturnType<typeof requestedFault>} fault
 * @param {Point} point
 * @param {import('./context.js').Connection} connection
 */
export async function happen(fault, point, connection) {
  if (!fault || fault.point !== point) return;
  switch (fault.kind) {
    case 'delay':
      await sleep(fault.milliseconds);
      return;
    case 'error':
      throw new TRPCError({ code: 'INTERNAL_SERVER_ERROR', message: `Asked to fail ${point.replace('-', ' ')}` });
    case 'crash':
      process.kill(process.pid, 'SIGKILL');
      break;
    case 'reset':
      connection.reset();
      break;
    case 'truncate':
      connection.truncate();
      break;
  }
  await forever();
}

/** @returns {Promise<never>} */
function forever() {
  return new Promise(() => {});
}
