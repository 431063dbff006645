export * from '@trpc/server/adapters/ws';
