import { openDatabase } from './database.js';
import { readOptions } from './options.js';
import { createApiServer } from './server.js';
import { openSettings } from './settings.js';

let options;
try {
  options = readOptions(process.argv.slice(2), process.env);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exit(2);
}

const database = await openDatabase(options.data, { queue: options.writeQueue });
const server = createApiServer({ options, database, settings: openSettings(options.data) });

server.on('error', (error) => {
  process.stderr.write(`Cannot listen on ${options.host}:${options.port}: ${error.message}\n`);
  process.exit(1);
});

server.listen(options.port, options.host, () => {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  const url = `http://${options.host}:${port}${options.basePath}`;
  process.stdout.write(JSON.stringify({ ready: true, port, url, pid: process.pid }) + '\n');
});

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));
