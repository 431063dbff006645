import { setTimeout as sleep } from 'node:timers/promises';
import { initTRPC, TRPCError } from '@trpc/server';
import * as devalue from 'devalue';
import superjson from 'superjson';
import { happen, requestedFault } from './faults.js';

const TRANSFORMERS = {
  none: undefined,
  superjson,
  devalue: { serialize: devalue.stringify, deserialize: devalue.parse },
};

/** @param {import('./options.js').Options} options */
export function createTrpc(options) {
  const t = initTRPC.context().create({ transformer: TRANSFORMERS[options.transformer] });
  const allowed = rateLimiter(options.rateLimit);

  const slow = t.middleware(async ({ next }) => {
    const time = options.latency + Math.random() * options.jitter;
    if (time > 0) await sleep(time);
    return next();
  });

  const authorized = t.middleware(async ({ ctx, next }) => {
    if (options.token && ctx.authorization !== `Bearer ${options.token}`) {
      throw new TRPCError({ code: 'UNAUTHORIZED', message: 'A valid bearer token is needed' });
    }
    return next();
  });

  const limited = t.middleware(async ({ next }) => {
    if (!allowed()) throw new TRPCError({ code: 'TOO_MANY_REQUESTS', message: 'Too many requests' });
    return next();
  });

  const writing = t.middleware(async ({ ctx, path, next }) => {
    const fault = options.faults ? requestedFault(ctx.faultHeader, path) : null;

    /**
     * One write transaction; `change` gets the transaction and a function that records what it did to an entity.
     *
     * @template T
     * @param {(tx: import('./database.js').Transaction & { did: (entity: string, key: string) => Promise<unknown> }) => Promise<T>} change
     */
    async function write(change) {
      // Only a crash needs the open transaction: the other failures would lock everybody else out meanwhile.
      if (fault?.kind !== 'crash') await happen(fault, 'before-commit', ctx.connection);
      const result = await ctx.database.write(
        (tx) => change({ ...tx, did: (entity, key) => tx.audit(path, entity, key) }),
        () => (fault?.kind === 'crash' ? happen(fault, 'before-commit', ctx.connection) : Promise.resolve()),
      );
      await happen(fault, 'after-commit', ctx.connection);
      return result;
    }

    return next({ ctx: { ...ctx, write } });
  });

  const reading = t.middleware(async ({ ctx, path, next }) => {
    const fault = options.faults ? requestedFault(ctx.faultHeader, path) : null;
    await happen(fault, 'before-commit', ctx.connection);
    return next();
  });

  return {
    router: t.router,
    query: t.procedure.use(slow).use(reading),
    mutation: t.procedure.use(authorized).use(limited).use(slow).use(writing),
    subscription: t.procedure.use(writing),
  };
}

/** @typedef {ReturnType<typeof createTrpc>} Trpc */

/** @param {number} perSecond */
function rateLimiter(perSecond) {
  let second = 0;
  let used = 0;
  return () => {
    if (!perSecond) return true;
    const now = Math.floor(Date.now() / 1000);
    if (now !== second) [second, used] = [now, 0];
    return ++used <= perSecond;
  };
}
