// What both programs share: a stock tRPC client for the API, and the live list of sessions.

import { parseArgs } from 'node:util';
import {
  createTRPCClient,
  httpBatchLink,
  httpBatchStreamLink,
  httpLink,
  httpSubscriptionLink,
  splitLink,
} from '@trpc/client';
import { EventSource } from 'eventsource';

const LINKS = { httpLink, httpBatchLink, httpBatchStreamLink };

const USAGE = `Usage: node %s --api URL [options]

  --api URL        the API with its base path, as in http://127.0.0.1:3000/trpc
  --events URL     the stream of events (default: /_changeover/events on the API's server, all sessions and settings)
  --token SECRET   sent as a bearer token
  --link NAME      httpLink | httpBatchLink | httpBatchStreamLink
  --pace MS        time between two things that the user does (default: 0)
  --patience MS    how long to wait for what another client should do (default: 30000)
  --watch          do nothing, only keep the list live

Prints one line of JSON for everything that happens. Stays until its stdin ends; a line "sessions" on stdin prints
the live list, a line "read" the list as the API has it now.
`;

/** @param {string} name @param {keyof LINKS} usualLink */
export function readOptions(name, usualLink) {
  const { values } = parseArgs({
    options: {
      api: { type: 'string' },
      events: { type: 'string' },
      token: { type: 'string' },
      link: { type: 'string', default: usualLink },
      pace: { type: 'string', default: '0' },
      patience: { type: 'string', default: '30000' },
      watch: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help || !values.api || !LINKS[values.link]) {
    process.stderr.write(USAGE.replace('%s', `${name}.mjs`));
    process.exit(values.help ? 0 : 2);
  }
  const events = values.events ?? new URL('/_changeover/events?channel=session:*&channel=config:*', values.api).href;
  return { ...values, events, pace: Number(values.pace), patience: Number(values.patience) };
}

/** @param {ReturnType<typeof readOptions>} options */
export function connectApi({ api, token, link }) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const withHeaders = (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } });
  return createTRPCClient({
    links: [
      splitLink({
        condition: (operation) => operation.type === 'subscription',
        true: httpSubscriptionLink({ url: api, EventSource, eventSourceOptions: () => ({ fetch: withHeaders }) }),
        false: LINKS[link]({ url: api, headers }),
      }),
    ],
  });
}

/** Opens the stream of events; resolves once it is open, so that nothing after that moment is missed. */
export function openEvents({ events, token }, onEvent, onReset) {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const source = new EventSource(events, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
  });
  source.addEventListener('message', (message) => onEvent(JSON.parse(message.data)));
  source.addEventListener('reset', onReset);
  return new Promise((resolve, reject) => {
    source.addEventListener('open', () => resolve(source), { once: true });
    source.addEventListener('error', (error) => {
      if (source.readyState === EventSource.CLOSED) reject(new Error(`no events from ${events}: ${error.message ?? error.code}`));
    });
  });
}
