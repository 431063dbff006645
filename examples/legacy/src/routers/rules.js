import { z } from 'zod';
import { attempt } from './attempt.js';

const RULES = [
  { id: 'concise', name: 'Concise', description: 'Answer in as few words as the matter allows' },
  { id: 'tests-first', name: 'Tests first', description: 'Write a failing test before the code' },
  { id: 'explain', name: 'Explain', description: 'Say why, not only what' },
  { id: 'no-dependencies', name: 'No dependencies', description: 'Prefer the standard library' },
];

/** @param {import('../trpc.js').Trpc} trpc */
export function rulesRouter({ router, query, mutation }) {
  return router({
    list: query.query(async ({ ctx }) => {
      const { rules } = await ctx.settings.load();
      return { rules: RULES.map((rule) => ({ ...rule, enabled: rules[rule.id] ?? false })) };
    }),

    toggle: mutation.input(z.object({ ruleId: z.string(), enabled: z.boolean() })).mutation(({ ctx, input }) =>
      attempt(async () => {
        if (!RULES.some((rule) => rule.id === input.ruleId)) throw new Error(`There is no rule ${input.ruleId}`);
        const settings = await ctx.settings.load();
        settings.rules = { ...settings.rules, [input.ruleId]: input.enabled };
        await ctx.write(async (tx) => {
          await tx.did('rule', input.ruleId);
          await ctx.settings.save(settings);
        });
      }),
    ),
  });
}
