import { z } from 'zod';
import { maskKeys } from '../settings.js';
import { attempt } from './attempt.js';

const providerConfig = z.object({
  apiKey: z.string().optional(),
  baseUrl: z.string().optional(),
  organization: z.string().optional(),
  defaultModel: z.string().optional(),
});

/** @param {import('../trpc.js').Trpc} trpc */
export function configRouter({ router, query, mutation }) {
  return router({
    load: query.input(z.object({ cwd: z.string().default('.') })).query(({ ctx }) =>
      attempt(async () => {
        const { providers, defaultProvider, defaultModel } = await ctx.settings.load();
        return { config: { providers: maskKeys(providers), defaultProvider, defaultModel } };
      }),
    ),

    updateProviderConfig: mutation
      .input(z.object({ providerId: z.string(), config: providerConfig }))
      .mutation(({ ctx, input }) =>
        attempt(async () => {
          if (!input.providerId) throw new Error('A provider needs an id');
          const settings = await ctx.settings.load();
          settings.providers[input.providerId] = input.config;
          await ctx.write(async (tx) => {
            await tx.did('provider', input.providerId);
            await ctx.settings.save(settings);
          });
        }),
      ),

    removeProvider: mutation.input(z.object({ providerId: z.string() })).mutation(({ ctx, input }) =>
      attempt(async () => {
        const settings = await ctx.settings.load();
        delete settings.providers[input.providerId];
        await ctx.write(async (tx) => {
          await tx.did('provider', input.providerId);
          await ctx.settings.save(settings);
        });
      }),
    ),

    selectModel: mutation.input(z.object({ providerId: z.string(), model: z.string() })).mutation(({ ctx, input }) =>
      attempt(async () => {
        const settings = await ctx.settings.load();
        if (!settings.providers[input.providerId]) throw new Error(`Provider ${input.providerId} is not configured`);
        settings.defaultProvider = input.providerId;
        settings.defaultModel = input.model;
        await ctx.write(async (tx) => {
          await tx.did('selection', 'default');
          await ctx.settings.save(settings);
        });
      }),
    ),

    save: mutation
      .input(
        z.object({
          config: z.object({
            providers: z.record(z.string(), providerConfig),
            defaultProvider: z.string().nullish(),
            defaultModel: z.string().nullish(),
          }),
        }),
      )
      .mutation(({ ctx, input }) =>
        attempt(async () => {
          const settings = await ctx.settings.load();
          settings.providers = input.config.providers;
          settings.defaultProvider = input.config.defaultProvider ?? null;
          settings.defaultModel = input.config.defaultModel ?? null;
          await ctx.write(async (tx) => {
            await tx.did('config', 'settings');
            await ctx.settings.save(settings);
          });
        }),
      ),
  });
}
