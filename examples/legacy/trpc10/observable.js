export * from '@trpc/server/observable';
