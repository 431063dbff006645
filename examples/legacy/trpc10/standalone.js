export * from '@trpc/server/adapters/standalone';
