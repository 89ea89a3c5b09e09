// The operator workspace as it changes. However many tabs a person has open, one of them holds the stream and tells the
// others: browsers allow only a few connections to a server, and streams of six tabs would leave none for anything else.

import { readEvents } from './events.js';

/** @typedef {import('./api.js').Api} Api */
/** @typedef {{session_id: string, agent_id: string, assignee_id: string | null, since: string}} Conversation */
/** @typedef {{count: number, as_of: string, conversations: Conversation[]}} WorkspaceView */
/** @typedef {{id: string | null, count: number, as_of: string, conversations?: Conversation[]}} Latest */

/** What tabs tell each other. @typedef {{type: 'ask' | 'alive' | 'latest' | 'connection', latest?: Latest, isConnected?: boolean}} Message */

/**
 * @typedef {object} Handlers
 * @property {(count: number) => void} onCount
 * @property {() => Promise<boolean>} wantsConversations whether it is of use to read the list now
 * @property {(view: WorkspaceView) => void} onConversations
 * @property {(isConnected: boolean) => void} onConnection
 */

/** The server says something every 20 s. */
const SILENCE_LIMIT = 45_000;
/** How often the tab with the stream tells the others that it lives. */
const ALIVE_EVERY = 15_000;
/** A tab that says nothing for so long is frozen by the browser: another takes over. */
const FROZEN_AFTER = 50_000;
/** The longest pause between two attempts to connect. */
const LONGEST_PAUSE = 30_000;
/** Whoever may not watch is asked again so late: a role may change. */
const REFUSED_PAUSE = 60_000;
/** After the list, or the token, could not be had. */
const READ_AGAIN = 2_000;

/** Watches the workspace in the name of one person. */
export class WorkspaceWatch {
  #api;
  #handlers;
  #ended = new AbortController();
  /** @type {BroadcastChannel | undefined} */
  #channel;
  /** @type {Latest | undefined} */
  #latest;
  #isLeading = false;
  #heardAt = performance.now();
  #retry = 1_000 + Math.random() * 3_000;
  /** @type {Promise<void> | undefined} */
  #reading;
  #isStale = false;

  /**
   * @param {Api} api
   * @param {Handlers} handlers
   */
  constructor(api, handlers) {
    this.#api = api;
    this.#handlers = handlers;
  }

  start() {
    void this.#run().catch(() => {});
  }

  stop() {
    this.#ended.abort();
    this.#channel?.close();
  }

  async #run() {
    const name = `flametree-workspace:${await this.#person()}`;
    if (this.#ended.signal.aborted) return;
    this.#channel = new BroadcastChannel(name);
    this.#channel.addEventListener('message', ({ data }) => this.#heard(data));
    this.#channel.postMessage({ type: 'ask' });
    let takesOver = false;
    while (!this.#ended.signal.aborted) {
      const turn = new AbortController();
      const end = () => turn.abort();
      this.#ended.signal.addEventListener('abort', end);
      const check = setInterval(() => this.#isFrozen() && turn.abort(), ALIVE_EVERY);
      try {
        const options = takesOver ? { steal: true } : { signal: turn.signal };
        const lead = () => this.#lead(turn.signal);
        await (navigator.locks ? navigator.locks.request(name, options, lead) : lead());
      } catch {
        // Another tab has taken over, or this one is about to.
      } finally {
        turn.abort();
        clearInterval(check);
        this.#ended.signal.removeEventListener('abort', end);
      }
      takesOver = this.#isFrozen();
    }
  }

  /** A name for who is signed in, as soon as there is a token. */
  async #person() {
    for (;;) {
      try {
        return await person(await this.#api.token());
      } catch (error) {
        if (this.#ended.signal.aborted) throw error;
        await rest(READ_AGAIN, this.#ended.signal);
      }
    }
  }

  /** Whether the tab with the stream is silent while somebody looks at this one. */
  #isFrozen() {
    const silence = performance.now() - this.#heardAt;
    return !this.#isLeading && document.visibilityState === 'visible' && silence > FROZEN_AFTER;
  }

  /** @param {Message} message */
  #heard({ type, latest, isConnected }) {
    if (type === 'ask') {
      if (this.#isLeading && this.#latest) this.#channel?.postMessage({ type: 'latest', latest: this.#latest });
      return;
    }
    this.#heardAt = performance.now();
    if (latest) this.#show(latest);
    if (isConnected !== undefined) this.#handlers.onConnection(isConnected);
  }

  /**
   * Tells the other tabs, and this one.
   * @param {Message} message
   */
  #tell(message) {
    if (!this.#ended.signal.aborted) this.#channel?.postMessage(message);
    this.#heard(message);
  }

  /** Holds the stream until the turn ends, through whatever happens to server and network. @param {AbortSignal} turn */
  async #lead(turn) {
    this.#isLeading = true;
    const alive = setInterval(() => this.#tell({ type: 'alive' }), ALIVE_EVERY);
    let failures = 0;
    try {
      while (!turn.aborted) {
        const pause = await this.#stream(turn, () => {
          failures = 0;
          this.#tell({ type: 'connection', isConnected: true });
        }).catch(() => {
          failures += 1;
          return Math.min(LONGEST_PAUSE, 500 * 2 ** failures) * (0.5 + Math.random() / 2);
        });
        if (failures > 0 && !turn.aborted) this.#tell({ type: 'connection', isConnected: false });
        await rest(pause, turn);
      }
    } finally {
      clearInterval(alive);
      this.#isLeading = false;
    }
  }

  /**
   * One connection from its beginning to its end; returns how long to wait before the next, and throws where it failed.
   * @param {AbortSignal} turn
   * @param {() => void} onConnected
   */
  async #stream(turn, onConnected) {
    const connection = new AbortController();
    const end = () => connection.abort();
    turn.addEventListener('abort', end);
    let watchdog = setTimeout(end, SILENCE_LIMIT);
    const onBytes = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(end, SILENCE_LIMIT);
    };
    try {
      const seen = this.#latest?.id;
      const headers = { accept: 'text/event-stream', ...(seen ? { 'last-event-id': seen } : {}) };
      const answer = await this.#api.fetch('GET', 'v1/workspace/stream', { headers, signal: connection.signal });
      if (answer.status === 401 || answer.status === 403) return REFUSED_PAUSE;
      if (!answer.ok || !answer.body) throw new Error(`the stream was answered with ${answer.status}`);
      onConnected();
      await readEvents(answer.body, {
        onBytes,
        onRetry: (ms) => {
          this.#retry = ms;
        },
        onEvent: ({ data, id }) => {
          const { count, as_of, conversations } = JSON.parse(data);
          this.#tell({ type: 'latest', latest: { id, count, as_of, conversations } });
        },
      });
      return this.#retry;
    } finally {
      clearTimeout(watchdog);
      turn.removeEventListener('abort', end);
    }
  }

  /** @param {Latest} latest */
  #show(latest) {
    this.#latest = latest;
    this.#handlers.onCount(latest.count);
    if (latest.conversations) {
      this.#handlers.onConversations({ ...latest, conversations: latest.conversations });
    } else {
      void this.#read();
    }
  }

  /** Reads the list, once more where it has changed meanwhile, and never twice at a time. */
  async #read() {
    this.#isStale = true;
    this.#reading ??= (async () => {
      while (this.#isStale && !this.#ended.signal.aborted && (await this.#handlers.wantsConversations())) {
        this.#isStale = false;
        try {
          const { signal } = this.#ended;
          this.#handlers.onConversations(await this.#api.json('GET', 'v1/workspace/active-conversations', { signal }));
        } catch {
          this.#isStale = true;
          await rest(READ_AGAIN, this.#ended.signal);
        }
      }
    })().finally(() => {
      this.#reading = undefined;
    });
    await this.#reading;
  }
}

/**
 * A pause; short where the network comes back, or the turn ends.
 * @param {number} ms
 * @param {AbortSignal} turn
 * @returns {Promise<void>}
 */
function rest(ms, turn) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener('online', done);
      turn.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener('online', done);
    turn.addEventListener('abort', done);
    if (turn.aborted) done();
  });
}

/**
 * A name for whose token it is: tabs of others on the same origin must not hear this one's stream. Nothing is trusted here.
 * @param {string} token
 */
async function person(token) {
  try {
    const payload = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const { tenant_id: tenant, sub } = JSON.parse(atob(payload));
    if (typeof sub === 'string') return `${tenant}/${sub}`;
  } catch {
    // No JWT.
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(token)));
  return Array.from(digest.slice(0, 8), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
