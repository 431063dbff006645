export * from '@trpc/server';
