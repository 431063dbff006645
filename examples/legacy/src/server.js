import { createServer } from 'node:http';
import { createExpressMiddleware } from '@trpc/server/adapters/express';
import { createHTTPHandler } from '@trpc/server/adapters/standalone';
import { applyWSSHandler } from '@trpc/server/adapters/ws';
import express from 'express';
import { WebSocketServer } from 'ws';
import { contextMaker } from './context.js';
import { appRouter } from './routers/index.js';
import { createTrpc } from './trpc.js';

/**
 * The HTTP server with the API on it, not yet listening.
 *
 * @param {object} services
 * @param {import('./options.js').Options} services.options
 * @param {import('./database.js').Database} services.database
 * @param {import('./settings.js').SettingsFile} services.settings
 */
export function createApiServer(services) {
  const { options } = services;
  const router = appRouter(createTrpc(options));
  const createContext = contextMaker(services);
  const api = { router, createContext, allowMethodOverride: options.methodOverride };
  const server = options.adapter === 'express' ? withExpress(api, options) : withStandalone(api, options);
  if (options.ws) applyWSSHandler({ wss: new WebSocketServer({ server }), router, createContext });
  return server;
}

/** @param {any} api @param {import('./options.js').Options} options */
function withStandalone(api, { basePath }) {
  const handler = createHTTPHandler({ ...api, basePath: `${basePath}/` });
  return createServer((req, res) => {
    if (req.url === '/health') return health(req, res);
    return handler(req, res);
  });
}

/** @param {any} api @param {import('./options.js').Options} options */
function withExpress(api, { basePath }) {
  const app = express();
  app.get('/health', health);
  app.use(basePath, createExpressMiddleware(api));
  return createServer(app);
}

/** @param {import('node:http').IncomingMessage} _req @param {import('node:http').ServerResponse} res */
function health(_req, res) {
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify({ status: 'ok' }));
}
