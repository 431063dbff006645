import { setTimeout as sleep } from 'node:timers/promises';
import { TRPCError } from '@trpc/server';
import { z } from 'zod';
import { scriptedAnswer, titleFor } from '../answers.js';
import { newId } from '../ids.js';
import { insertSession, newSession } from '../sessions.js';

const target = {
  sessionId: z.string().nullish(),
  provider: z.string().optional(),
  model: z.string().optional(),
};

/** @param {import('../trpc.js').Trpc} trpc */
export function messageRouter({ router, query, mutation, subscription }) {
  return router({
    getBySession: query.input(z.object({ sessionId: z.string() })).query(async ({ ctx, input }) =>
      ctx.database.rows('SELECT id, sessionId, role, content, created FROM messages WHERE sessionId = ? ORDER BY created, rowid', [
        input.sessionId,
      ]),
    ),

    add: mutation
      .input(z.object({ ...target, role: z.enum(['user', 'assistant', 'system']).default('user'), content: z.string() }))
      .mutation(async ({ ctx, input }) => {
        const session = input.sessionId ? null : newSession(ctx, withModel(input));
        const message = newMessage(ctx, input.sessionId ?? session.id, input.role, input.content);
        await ctx.write(async (tx) => {
          if (session) await insertSession(tx, session);
          await insertMessage(tx, message);
        });
        return { messageId: message.id, sessionId: message.sessionId };
      }),

    streamResponse: subscription.input(z.object({ ...target, content: z.string() })).subscription(async function* ({
      ctx,
      input,
      signal,
    }) {
      const session = input.sessionId ? null : newSession(ctx, withModel(input));
      const sessionId = input.sessionId ?? session.id;
      const question = newMessage(ctx, sessionId, 'user', input.content);
      await ctx.write(async (tx) => {
        if (session) await insertSession(tx, session);
        await insertMessage(tx, question);
      });
      if (session) yield { type: 'session-created', sessionId, provider: session.provider, model: session.model };
      yield { type: 'user-message-created', sessionId, messageId: question.id, content: question.content };

      const answer = newMessage(ctx, sessionId, 'assistant', '');
      yield { type: 'assistant-message-created', sessionId, messageId: answer.id };
      for (const text of scriptedAnswer(input.content)) {
        if (ctx.options.delta) await sleep(ctx.options.delta);
        if (signal?.aborted) return;
        answer.content += text;
        yield { type: 'text-delta', sessionId, messageId: answer.id, text };
      }
      await ctx.write((tx) => insertMessage(tx, answer));
      yield { type: 'text-end', sessionId, messageId: answer.id };

      const [row] = await ctx.database.rows('SELECT title FROM sessions WHERE id = ?', [sessionId]);
      if (row?.title) return;
      const title = titleFor(input.content);
      await ctx.write(async (tx) => {
        await tx.run('UPDATE sessions SET title = ?, updated = ? WHERE id = ?', [title, Date.now(), sessionId]);
        await tx.did('session', sessionId);
      });
      yield { type: 'title-delta', sessionId, text: title };
      yield { type: 'title-complete', sessionId, title };
    }),
  });
}

/** @param {{ provider?: string, model?: string }} input */
function withModel({ provider, model }) {
  if (!provider || !model) throw new TRPCError({ code: 'BAD_REQUEST', message: 'A new session needs a provider and a model' });
  return { provider, model };
}

/** @param {import('../context.js').Context} ctx @param {string} sessionId @param {string} role @param {string} content */
function newMessage(ctx, sessionId, role, content) {
  return { id: newId('message', ctx.options), sessionId, role, content, created: Date.now() };
}

async function insertMessage(tx, message) {
  await tx.run('INSERT INTO messages (id, sessionId, role, content, created) VALUES (?, ?, ?, ?, ?)', [
    message.id, message.sessionId, message.role, message.content, message.created,
  ]);
  await tx.run('UPDATE sessions SET updated = ? WHERE id = ?', [message.created, message.sessionId]);
  await tx.did('message', message.id);
}
