import { z } from 'zod';
import { insertSession, listedSession, newSession, wholeSession } from '../sessions.js';

const LISTED = 'SELECT s.*, (SELECT count(*) FROM messages m WHERE m.sessionId = s.id) AS messageCount FROM sessions s';
const page = { limit: z.number().int().min(1).max(100).default(20), cursor: z.number().optional() };

/** @param {import('../trpc.js').Trpc} trpc */
export function sessionRouter({ router, query, mutation }) {
  return router({
    getRecent: query.input(z.object(page)).query(async ({ ctx, input }) => {
      const rows = await ctx.database.rows(`${LISTED} WHERE s.updated < ? ORDER BY s.updated DESC LIMIT ?`, [
        input.cursor ?? Number.MAX_SAFE_INTEGER,
        input.limit + 1,
      ]);
      return pageOf(rows, input.limit);
    }),

    search: query.input(z.object({ query: z.string(), ...page })).query(async ({ ctx, input }) => {
      const rows = await ctx.database.rows(`${LISTED} WHERE s.title LIKE ? AND s.updated < ? ORDER BY s.updated DESC LIMIT ?`, [
        `%${input.query}%`,
        input.cursor ?? Number.MAX_SAFE_INTEGER,
        input.limit + 1,
      ]);
      return pageOf(rows, input.limit);
    }),

    getById: query.input(z.object({ sessionId: z.string() })).query(async ({ ctx, input }) => {
      const [row] = await ctx.database.rows('SELECT * FROM sessions WHERE id = ?', [input.sessionId]);
      return row ? wholeSession(row) : null;
    }),

    getCount: query.query(async ({ ctx }) => {
      const [row] = await ctx.database.rows('SELECT count(*) AS count FROM sessions');
      return row.count;
    }),

    create: mutation
      .input(
        z.object({
          provider: z.string().min(1),
          model: z.string().min(1),
          agentId: z.string().optional(),
          enabledRuleIds: z.array(z.string()).optional(),
        }),
      )
      .mutation(async ({ ctx, input }) => {
        const session = newSession(ctx, input);
        await ctx.write((tx) => insertSession(tx, session));
        return wholeSession(session);
      }),

    updateTitle: mutation.input(z.object({ sessionId: z.string(), title: z.string() })).mutation(async ({ ctx, input }) => {
      await ctx.write(async (tx) => {
        await tx.run('UPDATE sessions SET title = ?, updated = ? WHERE id = ?', [input.title, Date.now(), input.sessionId]);
        await tx.did('session', input.sessionId);
      });
    }),

    updateModel: mutation.input(z.object({ sessionId: z.string(), model: z.string() })).mutation(async ({ ctx, input }) => {
      await ctx.write(async (tx) => {
        await tx.run('UPDATE sessions SET model = ?, updated = ? WHERE id = ?', [input.model, Date.now(), input.sessionId]);
        await tx.did('session', input.sessionId);
      });
    }),

    updateProvider: mutation
      .input(z.object({ sessionId: z.string(), provider: z.string(), model: z.string() }))
      .mutation(async ({ ctx, input }) => {
        await ctx.write(async (tx) => {
          await tx.run('UPDATE sessions SET provider = ?, model = ?, updated = ? WHERE id = ?', [
            input.provider,
            input.model,
            Date.now(),
            input.sessionId,
          ]);
          await tx.did('session', input.sessionId);
        });
      }),

    updateRules: mutation
      .input(z.object({ sessionId: z.string(), enabledRuleIds: z.array(z.string()) }))
      .mutation(async ({ ctx, input }) => {
        await ctx.write(async (tx) => {
          await tx.run('UPDATE sessions SET enabledRuleIds = ? WHERE id = ?', [
            JSON.stringify(input.enabledRuleIds),
            input.sessionId,
          ]);
          await tx.did('session', input.sessionId);
        });
      }),

    delete: mutation.input(z.object({ sessionId: z.string() })).mutation(async ({ ctx, input }) => {
      await ctx.write(async (tx) => {
        await tx.run('DELETE FROM sessions WHERE id = ?', [input.sessionId]);
        await tx.did('session', input.sessionId);
      });
    }),
  });
}

/** @param {any[]} rows one more than wanted, when there are more @param {number} limit */
function pageOf(rows, limit) {
  const sessions = rows.slice(0, limit).map(listedSession);
  return { sessions, nextCursor: rows.length > limit ? sessions[sessions.length - 1].updated : null };
}
