import { newId } from './ids.js';

const DEFAULT_AGENT = 'coder';

/**
 * @param {import('./context.js').Context} ctx
 * @param {{ provider: string, model: string, agentId?: string, enabledRuleIds?: string[], title?: string }} wanted
 */
export function newSession(ctx, wanted) {
  const now = Date.now();
  return {
    id: newId('session', ctx.options),
    title: wanted.title || null,
    provider: wanted.provider,
    model: wanted.model,
    agentId: wanted.agentId ?? DEFAULT_AGENT,
    enabledRuleIds: wanted.enabledRuleIds ?? [],
    created: now,
    updated: now,
  };
}

/**
 * @param {import('./database.js').Transaction & { did: (entity: string, key: string) => Promise<unknown> }} tx
 * @param {ReturnType<typeof newSession>} session
 */
export async function insertSession(tx, session) {
  await tx.run(
    'INSERT INTO sessions (id, title, provider, model, agentId, enabledRuleIds, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
    [
      session.id, session.title, session.provider, session.model,
      session.agentId, JSON.stringify(session.enabledRuleIds), session.created, session.updated,
    ],
  );
  await tx.did('session', session.id);
}

/** A session as one reads it alone. A session without a title has no such field. */
export function wholeSession(row) {
  return {
    id: row.id,
    ...(row.title ? { title: row.title } : {}),
    provider: row.provider,
    model: row.model,
    agentId: row.agentId,
    enabledRuleIds: typeof row.enabledRuleIds === 'string' ? JSON.parse(row.enabledRuleIds) : row.enabledRuleIds,
    created: row.created,
    updated: row.updated,
  };
}

/** A session as a line of a list. */
export function listedSession(row) {
  const { enabledRuleIds: _, ...rest } = wholeSession(row);
  return { ...rest, messageCount: row.messageCount };
}
