// Runs real @trpc/client calls for the Python tests: one command a line on stdin, lines of JSON back on stdout.
//
// {"id":1,"url":…,"link":…,"version":11,"transformer":"none","headers":{…},"calls":[{"type","path","input","together"?,"take"?,"abortAfter"?}]}
//   → {"id":1,"results":[…],"http":[{"method","url","status","headers"}]}
// {"id":2,…,"follow":{"path","input"}}  → {"id":2,"started":true} {"id":2,"item":…}… {"id":2,"ended":"complete"|"error"|"stopped","error"?}
// {"stop":2}                            ends the subscription of command 2
//
// A call goes out in the same tick as the one before it when it says "together" (that is what makes a batch); otherwise
// it waits for the one before. Values cross the pipe as {"data":json,"meta"?}, the shape of superjson.

import { createInterface } from 'node:readline';
import * as v11 from '@trpc/client';
import * as devalue from 'devalue';
import { EventSource } from 'eventsource';
import superjson from 'superjson';
import * as v10 from 'trpc10/client';
import { WebSocket } from 'ws';

const TRANSFORMERS = {
  none: undefined,
  superjson,
  devalue: { serialize: devalue.stringify, deserialize: devalue.parse },
};

function connect(command) {
  const trpc = command.version === 10 ? v10 : v11;
  const transformer = TRANSFORMERS[command.transformer ?? 'none'];
  const headers = command.headers ?? {};
  const http = [];
  const closers = [];

  async function recordingFetch(input, init) {
    const response = await fetch(input, init);
    http.push({
      method: init?.method ?? 'GET',
      url: String(input),
      status: response.status,
      headers: [...response.headers],
    });
    return response;
  }

  const options = {
    url: command.url,
    headers,
    fetch: recordingFetch,
    ...(command.version === 10 ? {} : { transformer }),
    ...(command.methodOverride ? { methodOverride: 'POST' } : {}),
    ...(command.pathSeparator ? { pathSeparator: command.pathSeparator } : {}),
  };

  function socketLink() {
    class WithHeaders extends WebSocket {
      constructor(address, protocols) {
        super(address, protocols, { headers });
        this.on('error', () => {});
      }
    }
    const client = trpc.createWSClient({
      url: command.url.replace(/^http/, 'ws'),
      WebSocket: WithHeaders,
      retryDelayMs: () => 50,
      ...(command.connectionParams ? { connectionParams: command.connectionParams } : {}),
    });
    closers.push(() => client.close());
    return trpc.wsLink({ client, ...(command.version === 10 ? {} : { transformer }) });
  }

  function eventsLink() {
    return trpc.httpSubscriptionLink({
      url: command.url,
      transformer,
      EventSource,
      ...(command.connectionParams ? { connectionParams: command.connectionParams } : {}),
      eventSourceOptions: () => ({
        fetch: (input, init) => recordingFetch(input, { ...init, headers: { ...init.headers, ...headers } }),
      }),
    });
  }

  function link(name) {
    switch (name) {
      case 'httpLink':
        return trpc.httpLink(options);
      case 'httpBatchLink':
        return trpc.httpBatchLink(options);
      case 'httpBatchStreamLink':
        return (trpc.httpBatchStreamLink ?? trpc.unstable_httpBatchStreamLink)(options);
      case 'wsLink':
        return socketLink();
      case 'httpSubscriptionLink':
        return eventsLink();
      case 'splitLink':
        return trpc.splitLink({
          condition: (op) => op.type === 'subscription',
          true: eventsLink(),
          false: trpc.httpBatchLink(options),
        });
      default:
        throw new Error(`There is no link "${name}"`);
    }
  }

  const client = trpc.createTRPCUntypedClient({
    links: [link(command.link ?? 'httpBatchLink')],
    ...(command.version === 10 ? { transformer } : {}),
  });
  return { client, http, close: () => closers.forEach((closer) => closer()) };
}

function value(data) {
  const { json, meta } = superjson.serialize(data);
  return meta ? { data: json, meta } : { data: json };
}

function inputOf({ input, meta, file }) {
  if (file?.form) {
    const form = new FormData();
    for (const [name, part] of Object.entries(file.form)) {
      if (typeof part === 'string') form.append(name, part);
      else form.append(name, new File([Buffer.from(part.base64, 'base64')], part.name));
    }
    return form;
  }
  if (file?.base64 !== undefined) return new Uint8Array(Buffer.from(file.base64, 'base64'));
  return meta ? superjson.deserialize({ json: input, meta }) : input;
}

function failure(error) {
  const status = error?.meta?.response?.status;
  return {
    error: {
      name: error?.name ?? 'Error',
      message: String(error?.message ?? error),
      code: error?.data?.code ?? null,
      number: error?.shape?.code ?? null,
      data: error?.data ?? null,
      status: status ?? null,
      cause: error?.cause?.code ?? error?.cause?.message ?? null,
    },
  };
}

async function settled(work) {
  try {
    return await work();
  } catch (error) {
    return failure(error);
  }
}

function call(client, wish) {
  const input = inputOf(wish);
  const options = wish.abortAfter === undefined ? {} : { signal: AbortSignal.timeout(wish.abortAfter) };
  if (wish.type === 'subscription') return collect(client, wish, input);
  return settled(async () => {
    const result = await client[wish.type](wish.path, input, options);
    if (result && typeof result === 'object' && Symbol.asyncIterator in result) {
      const items = [];
      for await (const item of result) items.push(value(item));
      return { items, ended: 'complete' };
    }
    return value(result);
  });
}

function collect(client, wish, input) {
  return new Promise((resolve) => {
    const items = [];
    let subscription;
    let over = false;
    function finish(ended, rest = {}) {
      if (over) return;
      over = true;
      // Not in the same tick: the client trips over an end that arrives while it reads.
      setImmediate(() => {
        subscription?.unsubscribe();
        resolve({ items, ended, ...rest });
      });
    }
    subscription = client.subscription(wish.path, input, {
      onData(item) {
        if (over) return;
        items.push(value(item));
        if (wish.take !== undefined && items.length >= wish.take) finish('taken');
      },
      onComplete: () => finish('complete'),
      onError: (error) => finish('error', failure(error)),
    });
    if (wish.abortAfter !== undefined) setTimeout(() => finish('aborted'), wish.abortAfter);
  });
}

async function run(command) {
  const { client, http, close } = connect(command);
  const results = [];
  let group = [];
  async function flush() {
    results.push(...(await Promise.all(group)));
    group = [];
  }
  for (const wish of command.calls) {
    if (!wish.together) await flush();
    group.push(call(client, wish));
  }
  await flush();
  close();
  return { id: command.id, results, http };
}

const following = new Map();

function follow(command) {
  const { client, close } = connect(command);
  const { id } = command;
  let over = false;
  function end(ended, rest = {}) {
    if (over) return;
    over = true;
    following.delete(id);
    setImmediate(() => {
      subscription.unsubscribe();
      close();
      print({ id, ended, ...rest });
    });
  }
  const subscription = client.subscription(command.follow.path, inputOf(command.follow), {
    onStarted: () => print({ id, started: true }),
    onData: (item) => over || print({ id, item: value(item) }),
    onComplete: () => end('complete'),
    onError: (error) => end('error', failure(error)),
  });
  following.set(id, () => end('stopped'));
}

function print(line) {
  process.stdout.write(JSON.stringify(line) + '\n');
}

process.on('uncaughtException', (error) => process.stderr.write(`${error?.stack ?? error}\n`));
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const command = JSON.parse(line);
  if (command.stop !== undefined) following.get(command.stop)?.();
  else if (command.follow) {
    try {
      follow(command);
    } catch (error) {
      print({ id: command.id, ended: 'error', ...failure(error) });
    }
  } else run(command).then(print, (error) => print({ id: command.id, ...failure(error) }));
});
lines.on('close', () => process.exit(0));
