import { agentsRouter } from './agents.js';
import { configRouter } from './config.js';
import { messageRouter } from './message.js';
import { rulesRouter } from './rules.js';
import { sessionRouter } from './session.js';

/** @param {import('../trpc.js').Trpc} trpc */
export function appRouter(trpc) {
  return trpc.router({
    session: sessionRouter(trpc),
    message: messageRouter(trpc),
    config: configRouter(trpc),
    rules: rulesRouter(trpc),
    agents: agentsRouter(trpc),
  });
}

/** @typedef {ReturnType<typeof appRouter>} AppRouter */
