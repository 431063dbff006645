import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { initTRPC, TRPCError, tracked } from '@trpc/server';
import { octetInputParser } from '@trpc/server/http';
import { z } from 'zod';
import { gate, PLAIN, ran, RICH } from './values.mjs';

const anything = z.any();

export function responseMeta({ paths }) {
  if (!paths?.includes('cookies')) return {};
  return { headers: new Headers([['set-cookie', 'a=1; Path=/'], ['set-cookie', 'b=2; Path=/'], ['x-from-meta', 'yes']]) };
}

function fail(code, message = 'refused') {
  throw new TRPCError({ code: code ?? 'CONFLICT', message });
}

export function router11({ transformer, isDev, pathSeparator }) {
  const t = initTRPC.create({ transformer, isDev, pathSeparator });
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
    'weird-näme': counted.query(() => 'found'),

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
    post: { comment: { add: given.mutation(({ input }) => ({ added: input })) } },

    generatorMut: counted.input(z.object({ steps: z.number(), gate: z.string().optional() })).mutation(async function* ({ input }) {
      for (let step = 1; step <= input.steps; step++) {
        if (step === 2 && input.gate) await gate.passed(input.gate);
        yield { step };
      }
      return { done: true };
    }),
    failingGeneratorMut: given.mutation(async function* () {
      yield { step: 1 };
      fail('BAD_REQUEST', 'mid-stream');
    }),
    deferredMut: given.mutation(() => ({ id: 'd1', later: sleep(5).then(() => 'late') })),
    failingDeferredMut: given.mutation(() => ({ id: 'd2', later: sleep(5).then(() => fail('FORBIDDEN', 'late')) })),

    formMut: counted.input(z.instanceof(FormData)).mutation(async ({ input }) => {
      const parts = [];
      for (const [name, part] of input) {
        parts.push(typeof part === 'string' ? { name, text: part } : { name, file: part.name, ...digest(Buffer.from(await part.arrayBuffer())) });
      }
      return parts;
    }),
    octetMut: counted.input(octetInputParser).mutation(async ({ input }) => {
      const chunks = [];
      for await (const chunk of input) chunks.push(chunk);
      return digest(Buffer.concat(chunks));
    }),

    ticks: counted
      .input(z.object({ count: z.number().optional(), lastEventId: z.string().nullish() }).optional())
      .subscription(async function* ({ input, signal }) {
        const last = input?.count ?? Number.POSITIVE_INFINITY;
        for (let n = Number(input?.lastEventId ?? 0) + 1; n <= last && !signal?.aborted; n++) {
          await sleep(2);
          yield tracked(String(n), { n, at: transformer ? new Date(n) : n });
        }
      }),
    untracked: counted.subscription(async function* () {
      yield { line: 'one\ntwo' };
      yield null;
      yield PLAIN;
    }),
    gatedTicks: counted.input(z.object({ gate: z.string() })).subscription(async function* ({ input }) {
      yield tracked('1', 'before');
      await gate.passed(input.gate);
      yield tracked('2', 'after');
    }),
    failingTicks: counted.subscription(async function* () {
      yield tracked('1', { n: 1 });
      fail('FORBIDDEN', 'no more');
    }),
  });
}

function digest(bytes) {
  return { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}
