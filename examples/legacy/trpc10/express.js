export * from '@trpc/server/adapters/express';
