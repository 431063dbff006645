/**
 * What a procedure may ask of the connection that it was called on.
 *
 * @typedef {object} Connection
 * @property {() => void} reset      break the connection off at once
 * @property {() => void} truncate   send the beginning of an answer, then break off
 */

/**
 * @param {import('node:http').ServerResponse} res
 * @returns {Connection}
 */
function httpConnection(res) {
  return {
    reset: () => res.socket?.resetAndDestroy(),
    truncate: () => {
      if (!res.headersSent) res.writeHead(200, { 'content-type': 'application/json', 'content-length': 4096 });
      res.write('{"result":{"da', () => res.socket?.destroySoon());
    },
  };
}

/**
 * @param {import('ws').WebSocket} socket
 * @returns {Connection}
 */
function socketConnection(socket) {
  return { reset: () => socket.terminate(), truncate: () => socket.terminate() };
}

/** @typedef {Awaited<ReturnType<ReturnType<typeof contextMaker>>>} Context */

/**
 * @param {object} services
 * @param {import('./options.js').Options} services.options
 * @param {import('./database.js').Database} services.database
 * @param {import('./settings.js').SettingsFile} services.settings
 */
export function contextMaker({ options, database, settings }) {
  /** @param {{ req: import('node:http').IncomingMessage, res: any }} request */
  return async ({ req, res }) => ({
    options,
    database,
    settings,
    authorization: req.headers.authorization ?? null,
    faultHeader: req.headers['x-fault'],
    connection: 'terminate' in res ? socketConnection(res) : httpConnection(res),
  });
}
