// A small real tRPC server for the wire matrix: every shape that a call, an answer, an error and a stream can take.
//
//   node server.mjs --version 10|11 --adapter standalone|express|fetch --transformer none|superjson|devalue
//   node server.mjs --matrix         all of them, each on its own port, in one process
//                   [--method-override] [--no-batching] [--stack] [--base-path /trpc]
//
// WebSocket connections are served on the same port.
// The first line on stdout is {"ready":true,"servers":{"11-standalone-none":{"url","port"},…}}.
// Answers depend on nothing but the call, so that two ways to the same server can be compared.

import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { parseArgs } from 'node:util';
import { createExpressMiddleware } from '@trpc/server/adapters/express';
import { fetchRequestHandler } from '@trpc/server/adapters/fetch';
import { createHTTPHandler } from '@trpc/server/adapters/standalone';
import { applyWSSHandler } from '@trpc/server/adapters/ws';
import * as devalue from 'devalue';
import express from 'express';
import superjson from 'superjson';
import { createExpressMiddleware as createExpressMiddleware10 } from 'trpc10/express';
import { createHTTPHandler as createHTTPHandler10 } from 'trpc10/standalone';
import { applyWSSHandler as applyWSSHandler10 } from 'trpc10/ws';
import { WebSocketServer } from 'ws';
import { responseMeta10, router10 } from './router10.mjs';
import { responseMeta, router11 } from './router11.mjs';

const { values: flags } = parseArgs({
  options: {
    matrix: { type: 'boolean', default: false },
    version: { type: 'string', default: '11' },
    adapter: { type: 'string', default: 'standalone' },
    transformer: { type: 'string', default: 'none' },
    'base-path': { type: 'string', default: '/trpc' },
    'method-override': { type: 'boolean', default: false },
    'no-batching': { type: 'boolean', default: false },
    stack: { type: 'boolean', default: false },
    separator: { type: 'string', default: '.' },
  },
});
const TRANSFORMERS = {
  none: undefined,
  superjson,
  devalue: { serialize: devalue.stringify, deserialize: devalue.parse },
};
const ADAPTERS = { standalone, express: withExpress, fetch: withFetch };
const MATRIX = ['10-standalone', '10-express', '11-standalone', '11-express', '11-fetch'].flatMap((which) =>
  Object.keys(TRANSFORMERS).map((transformer) => `${which}-${transformer}`),
);
const basePath = flags['base-path'];
const createContext = () => ({});

/** Starts the server of that name, like "11-express-superjson"; resolves to its address. */
function start(name) {
  const [version, adapter, transformer] = name.split('-');
  const old = version === '10';
  const router = (old ? router10 : router11)({ transformer: TRANSFORMERS[transformer], isDev: flags.stack, pathSeparator: flags.separator });
  const api = old
    ? { router, createContext, responseMeta: responseMeta10, batching: { enabled: !flags['no-batching'] } }
    : {
        router,
        createContext,
        responseMeta,
        allowBatching: !flags['no-batching'],
        allowMethodOverride: flags['method-override'],
      };
  const server = ADAPTERS[adapter](old, api);
  (old ? applyWSSHandler10 : applyWSSHandler)({ wss: new WebSocketServer({ server }), router, createContext });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ url: `http://127.0.0.1:${server.address().port}${basePath}`, port: server.address().port }));
  });
}

function standalone(old, api) {
  return createServer(old ? withoutBasePath(createHTTPHandler10(api)) : createHTTPHandler({ ...api, basePath: `${basePath}/` }));
}

// The standalone adapter of version 10 knows no base path; its users mounted it like this.
function withoutBasePath(handler) {
  return (req, res) => {
    if (!req.url.startsWith(`${basePath}/`)) {
      res.statusCode = 404;
      return res.end();
    }
    req.url = req.url.slice(basePath.length);
    return handler(req, res);
  };
}

function withExpress(old, api) {
  const app = express();
  app.use(basePath, old ? createExpressMiddleware10(api) : createExpressMiddleware(api));
  return createServer(app);
}

function withFetch(_old, api) {
  return createServer(async (req, res) => {
    const abort = new AbortController();
    res.on('close', () => abort.abort());
    const hasBody = !['GET', 'HEAD'].includes(req.method);
    const request = new Request(new URL(req.url, 'http://127.0.0.1'), {
      method: req.method,
      headers: Object.entries(req.headers).map(([name, value]) => [name, String(value)]),
      signal: abort.signal,
      ...(hasBody ? { body: Readable.toWeb(req), duplex: 'half' } : {}),
    });
    const response = await fetchRequestHandler({ ...api, endpoint: basePath, req: request });
    res.writeHead(response.status, [...response.headers].flat());
    if (!response.body) return res.end();
    Readable.fromWeb(response.body)
      .on('error', () => res.destroy())
      .pipe(res);
  });
}

const names = flags.matrix ? MATRIX : [`${flags.version}-${flags.adapter}-${flags.transformer}`];
const servers = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await start(name)])));
process.stdout.write(JSON.stringify({ ready: true, servers }) + '\n');
process.on('SIGTERM', () => process.exit(0));
