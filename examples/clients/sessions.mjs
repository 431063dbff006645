// The list of sessions as one client shows it: read once, then kept by events alone.

import { EventEmitter, once } from 'node:events';

/** What an event does to the session that it is about. Applying one twice changes nothing. */
const CHANGES = {
  'session-created': (session, payload) => ({ ...session, provider: payload.provider, model: payload.model }),
  'session-title-updated': (session, payload) => ({ ...session, title: payload.title }),
  'session-model-updated': (session, payload) => ({ ...session, model: payload.model }),
  'session-provider-updated': (session, payload) => ({ ...session, provider: payload.provider, model: payload.model }),
  'session-deleted': () => null,
};

export class LiveSessions extends EventEmitter {
  #sessions = new Map();
  #early = [];
  #read = false;
  /** The position of the last event seen. */
  position = 0;

  /** Takes an event, also before the list was read: it waits until then. */
  apply(event) {
    if (!this.#read) return void this.#early.push(event);
    this.position = event.cursor?.sequence ?? this.position;
    const id = event.payload.sessionId;
    const change = CHANGES[event.type];
    // A change of a session that the list does not have is an old one: the session is gone since.
    const known = this.#sessions.get(id);
    if (change && (known || event.type === 'session-created')) {
      const changed = change(known ?? { id }, event.payload);
      if (changed) this.#sessions.set(id, changed);
      else this.#sessions.delete(id);
    }
    this.emit('changed', event);
  }

  /** Starts from the list as the API has it. */
  start(sessions) {
    this.#sessions = new Map(sessions.map((session) => [session.id, shown(session)]));
    this.#read = true;
    for (const event of this.#early.splice(0)) this.apply(event);
  }

  list() {
    return [...this.#sessions.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** Resolves to the first session for which `wanted` holds, now or once the events have made it so. */
  async until(wanted, patience) {
    const signal = AbortSignal.timeout(patience);
    for (;;) {
      const found = this.list().find(wanted);
      if (found) return found;
      await once(this, 'changed', { signal });
    }
  }
}

/** The whole list, page by page. */
export async function readSessions(api) {
  const sessions = [];
  let cursor;
  do {
    const page = await api.session.getRecent.query({ limit: 100, ...(cursor ? { cursor } : {}) });
    sessions.push(...page.sessions);
    cursor = page.nextCursor;
  } while (cursor);
  return sessions;
}

export function shown({ id, title, provider, model }) {
  return { id, ...(title ? { title } : {}), provider, model };
}
