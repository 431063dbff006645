import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createClient } from '@libsql/client';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    title TEXT,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    agentId TEXT NOT NULL,
    enabledRuleIds TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL
  );
  CREATE INDEX IF NOT EXISTS sessions_by_updated ON sessions (updated);
  CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY,
    sessionId TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    created INTEGER NOT NULL
  );
  CREATE INDEX IF NOT EXISTS messages_by_session ON messages (sessionId, created);
  CREATE TABLE IF NOT EXISTS audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    procedure TEXT NOT NULL,
    entity TEXT NOT NULL,
    key TEXT NOT NULL,
    at INTEGER NOT NULL
  );
`;

/** @typedef {Awaited<ReturnType<typeof openDatabase>>} Database */

/**
 * The assistant's database: one libSQL file. Writes go through `write`, which records each of them in the
 * audit table in the same transaction.
 *
 * @param {string} directory
 * @param {{ queue: boolean }} options
 */
export async function openDatabase(directory, { queue }) {
  mkdirSync(directory, { recursive: true });
  const client = createClient({ url: `file:${join(directory, 'assistant.db')}` });
  await client.execute('PRAGMA journal_mode = WAL');
  await client.executeMultiple(SCHEMA);
  let last = Promise.resolve();

  /**
   * Runs one write transaction after the other, because the embedded database locks out parallel writers.
   *
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  function inTurn(work) {
    if (!queue) return work();
    const result = last.then(work);
    last = result.then(
      () => {},
      () => {},
    );
    return result;
  }

  return {
    /** @param {string} sql @param {any[]} args */
    async rows(sql, args = []) {
      return (await run(client, sql, args)).rows;
    },

    /**
     * @template T
     * @param {(tx: Transaction) => Promise<T>} work
     * @param {() => Promise<void>} beforeCommit
     * @returns {Promise<T>}
     */
    write(work, beforeCommit) {
      return inTurn(async () => {
        const tx = await client.transaction('write');
        try {
          const result = await work({
            run: (sql, args = []) => run(tx, sql, args),
            audit: (procedure, entity, key) =>
              run(tx, 'INSERT INTO audit (procedure, entity, key, at) VALUES (?, ?, ?, ?)', [procedure, entity, key, Date.now()]),
          });
          await beforeCommit();
          await tx.commit();
          return result;
        } finally {
          tx.close();
        }
      });
    },

    close: () => client.close(),
  };
}

/**
 * @typedef {object} Transaction
 * @property {(sql: string, args?: any[]) => Promise<import('@libsql/client').ResultSet>} run
 * @property {(procedure: string, entity: string, key: string) => Promise<unknown>} audit
 */

/**
 * @param {{ execute: (statement: { sql: string, args: any[] }) => Promise<import('@libsql/client').ResultSet> }} on
 * @param {string} sql
 * @param {any[]} args
 */
async function run(on, sql, args) {
  try {
    return await on.execute({ sql, args });
  } catch (error) {
    throw new Error(`Failed query: ${sql}\nparams: ${args.join(',')}`, { cause: error });
  }
}
