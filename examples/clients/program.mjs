// A client program: shows the live list, goes through its user's day, and says so in lines of JSON.
//
//   {"client","kind":"ready","sessions"}              the list was read and is live from here on
//   {"client","kind":"did","what"}                    a step of the day succeeded
//   {"client","kind":"saw","type","channel","position","sessions"}   an event came; the list after it
//   {"client","kind":"answer","text"}                 a streamed answer, whole
//   {"client","kind":"done"}                          the day is over
//   {"client","kind":"failed","what","error"}         and the program ends with status 1
//   {"client","kind":"sessions"|"read","position","sessions"}        on request

import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectApi, openEvents, readOptions } from './connection.mjs';
import { LiveSessions, readSessions, shown } from './sessions.mjs';

/**
 * @param {string} name
 * @param {'httpLink' | 'httpBatchLink' | 'httpBatchStreamLink'} usualLink
 * @param {(user: User) => Promise<void>} day
 *
 * @typedef {object} User
 * @property {any} api
 * @property {(what: string, ...calls: (() => Promise<any>)[]) => Promise<any>} does   calls of one step go out together
 * @property {(wanted: (session: any) => boolean) => Promise<any>} sees
 * @property {(text: string) => void} hears
 */
export async function run(name, usualLink, day) {
  const options = readOptions(name, usualLink);
  const api = connectApi(options);
  const sessions = new LiveSessions();
  const print = (kind, rest = {}) => process.stdout.write(JSON.stringify({ client: name, kind, ...rest }) + '\n');

  function fail(what, error) {
    process.exitCode = 1;
    process.stdout.write(
      JSON.stringify({ client: name, kind: 'failed', what, error: String(error?.message ?? error) }) + '\n',
      () => process.exit(1),
    );
  }

  let current = 'connects';
  try {
    const start = async () => sessions.start(await readSessions(api));
    const startAgain = () => start().catch((error) => fail('reads the list again', error));
    await openEvents(options, (event) => sessions.apply(event), startAgain);
    await start();
    print('ready', { sessions: sessions.list() });
    sessions.on('changed', ({ type, channel }) =>
      print('saw', { type, channel, position: sessions.position, sessions: sessions.list() }),
    );
    listen(api, sessions, print);
    if (options.watch) return;
    await day({
      api,
      async does(what, ...calls) {
        current = what;
        if (options.pace) await sleep(options.pace);
        const answers = await Promise.all(calls.map((call) => call()));
        for (const answer of answers) if (answer?.success === false) throw new Error(answer.error);
        print('did', { what });
        return answers[0];
      },
      async sees(wanted) {
        current = 'waits for another client';
        return sessions.until(wanted, options.patience);
      },
      hears: (text) => print('answer', { text }),
    });
    print('done');
  } catch (error) {
    fail(current, error);
  }
}

function listen(api, sessions, print) {
  const lines = createInterface({ input: process.stdin });
  lines.on('line', async (line) => {
    if (line === 'sessions') print('sessions', { position: sessions.position, sessions: sessions.list() });
    if (line === 'read') {
      const read = (await readSessions(api)).map(shown).sort((a, b) => (a.id < b.id ? -1 : 1));
      print('read', { position: sessions.position, sessions: read });
    }
  });
  lines.on('close', () => process.exit());
}
