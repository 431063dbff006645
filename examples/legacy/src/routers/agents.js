import { z } from 'zod';
import { attempt } from './attempt.js';

const AGENTS = [
  { id: 'coder', name: 'Coder', description: 'Writes and changes code' },
  { id: 'planner', name: 'Planner', description: 'Breaks work into steps' },
  { id: 'reviewer', name: 'Reviewer', description: 'Reads code and says what is wrong with it' },
];

/** @param {import('../trpc.js').Trpc} trpc */
export function agentsRouter({ router, query, mutation }) {
  return router({
    list: query.query(async ({ ctx }) => {
      const { agent } = await ctx.settings.load();
      return { agents: AGENTS, selected: agent };
    }),

    select: mutation.input(z.object({ agentId: z.string() })).mutation(({ ctx, input }) =>
      attempt(async () => {
        if (!AGENTS.some((agent) => agent.id === input.agentId)) throw new Error(`There is no agent ${input.agentId}`);
        const settings = await ctx.settings.load();
        settings.agent = input.agentId;
        await ctx.write(async (tx) => {
          await tx.did('selection', 'agent');
          await ctx.settings.save(settings);
        });
      }),
    ),
  });
}
