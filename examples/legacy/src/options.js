import { parseArgs } from 'node:util';

const USAGE = `Usage: node src/main.js [options]

  --port N              port to listen on, 0 for a free one (default: $PORT or 0)
  --host ADDRESS        address to bind (default: 127.0.0.1)
  --data DIR            where the database and the settings are kept (default: ./data)
  --base-path PATH      where the API is mounted (default: /trpc)
  --adapter NAME        standalone | express (default: standalone)
  --transformer NAME    none | superjson | devalue (default: none)
  --superjson           the same as --transformer superjson
  --ws                  also serve WebSocket connections on the same port
  --token SECRET        mutations need "authorization: Bearer SECRET" (default: $API_TOKEN, none)
  --rate-limit N        mutations allowed in each second (default: no limit)
  --latency MS          time that every call takes at least
  --jitter MS           a random time up to this is added to every call
  --delta MS            time between two pieces of a streamed answer (default: 5)
  --method-override     allow queries to be sent as POST
  --clock-ids           make ids from the clock, as the first version of this server did
  --no-write-queue      do not queue writes: parallel ones find the database locked
  --faults              let requests ask for failures by the header x-fault (for tests)
`;

/** @typedef {ReturnType<typeof readOptions>} Options */

/**
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 */
export function readOptions(args, env) {
  const { values } = parseArgs({
    args,
    options: {
      port: { type: 'string', default: env.PORT ?? '0' },
      host: { type: 'string', default: '127.0.0.1' },
      data: { type: 'string', default: './data' },
      'base-path': { type: 'string', default: '/trpc' },
      adapter: { type: 'string', default: 'standalone' },
      transformer: { type: 'string', default: 'none' },
      superjson: { type: 'boolean', default: false },
      ws: { type: 'boolean', default: false },
      token: { type: 'string', default: env.API_TOKEN },
      'rate-limit': { type: 'string', default: '0' },
      latency: { type: 'string', default: '0' },
      jitter: { type: 'string', default: '0' },
      delta: { type: 'string', default: '5' },
      'method-override': { type: 'boolean', default: false },
      'clock-ids': { type: 'boolean', default: false },
      'no-write-queue': { type: 'boolean', default: false },
      faults: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    process.exit(0);
  }
  const transformer = values.superjson ? 'superjson' : oneOf('transformer', values.transformer, ['none', 'superjson', 'devalue']);
  return {
    port: number('port', values.port),
    host: values.host,
    data: values.data,
    basePath: '/' + values['base-path'].replace(/^\/+|\/+$/g, ''),
    adapter: oneOf('adapter', values.adapter, ['standalone', 'express']),
    transformer,
    ws: values.ws,
    token: values.token ?? null,
    rateLimit: number('rate-limit', values['rate-limit']),
    latency: number('latency', values.latency),
    jitter: number('jitter', values.jitter),
    delta: number('delta', values.delta),
    methodOverride: values['method-override'],
    clockIds: values['clock-ids'],
    writeQueue: !values['no-write-queue'],
    faults: values.faults,
  };
}

/** @param {string} name @param {string} value */
function number(name, value) {
  const parsed = Number(value);
  if (!Number.isFinite(parsed) || parsed < 0) throw new Error(`--${name} needs a number, not "${value}"`);
  return parsed;
}

/** @param {string} name @param {string} value @param {string[]} choices */
function oneOf(name, value, choices) {
  if (!choices.includes(value)) throw new Error(`--${name} needs one of ${choices.join(', ')}, not "${value}"`);
  return value;
}
