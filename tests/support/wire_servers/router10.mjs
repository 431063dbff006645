import { setTimeout as sleep } from 'node:timers/promises';
import { observable } from 'trpc10/observable';
import { initTRPC, TRPCError } from 'trpc10/server';
import { z } from 'zod';
import { gate, PLAIN, ran, RICH } from './values.mjs';

const anything = z.any();

export function responseMeta10({ paths }) {
  if (!paths?.includes('cookies')) return {};
  return { headers: { 'set-cookie': ['a=1; Path=/', 'b=2; Path=/'], 'x-from-meta': 'yes' } };
}

function fail(code, message = 'refused') {
  throw new TRPCError({ code: code ?? 'CONFLICT', message });
}

export function router10({ transformer, isDev }) {
  const t = initTRPC.create({ transformer, isDev });
  const counted = t.procedure.use(({ path, next }) => {
    ran.note(path);
    return next();
  });
  const given = counted.input(anything);

  return t.router({
    hello: counted.query(() => 'hello'),
    echo: given.query(({ input }) => input),
    nothing: counted.query(() => undefined),
    plain: counted.query(() => PLAIN),
    rich: counted.query(() => (transformer ? RICH : PLAIN)),
    failing: given.query(({ input }) => fail(input?.code)),
    ran: t.procedure.input(z.string()).query(({ input }) => ran.times(input)),

    voidMut: given.mutation(() => undefined),
    nullMut: given.mutation(() => null),
    falseMut: given.mutation(() => false),
    echoMut: given.mutation(({ input }) => ({ got: input })),
    richMut: given.mutation(({ input }) => ({ got: input, made: transformer ? RICH : PLAIN })),
    failMut: given.mutation(({ input }) => fail(input?.code)),
    throwMut: given.mutation(() => {
      throw new Error('kaboom');
    }),
    validMut: counted
      .input(z.object({ title: z.string().min(1), count: z.number().int().default(1) }))
      .mutation(({ input }) => ({ id: `made-${input.title}`, ...input })),
    slowMut: counted.input(z.object({ ms: z.number() })).mutation(async ({ input }) => {
      await sleep(input.ms);
      return { slept: input.ms };
    }),
    gatedMut: counted.input(z.object({ gate: z.string() })).mutation(async ({ input }) => {
      await gate.passed(input.gate);
      return { passed: input.gate };
    }),
    open: t.procedure.input(z.object({ gate: z.string() })).mutation(({ input }) => gate.open(input.gate)),
    cookies: given.mutation(() => ({ baked: 2 })),
    post: t.router({ comment: t.router({ add: given.mutation(({ input }) => ({ added: input })) }) }),

    ticks: counted.input(z.object({ count: z.number().optional() }).optional()).subscription(({ input }) =>
      observable((emit) => {
        let n = 0;
        const timer = setInterval(() => {
          emit.next({ n: ++n, at: transformer ? new Date(n) : n });
          if (n === input?.count) {
            clearInterval(timer);
            emit.complete();
          }
        }, 2);
        return () => clearInterval(timer);
      }),
    ),
    failingTicks: counted.subscription(() =>
      observable((emit) => {
        emit.next({ n: 1 });
        emit.error(new TRPCError({ code: 'FORBIDDEN', message: 'no more' }));
      }),
    ),
  });
}
