// Watches the operator workspace. One tab of a user opens the stream and informs the user's other tabs. Browsers limit the
// connections to a server, so the streams of six tabs would leave no connection for other requests.

import { readEvents } from './events.js';

/** @typedef {import('./api.js').Api} Api */
/** @typedef {{session_id: string, agent_id: string, assignee_id: string | null, since: string}} Conversation */
/** @typedef {{count: number, as_of: string, conversations: Conversation[]}} WorkspaceView */
/** @typedef {{id: string | null, count: number, as_of: string, conversations?: Conversation[]}} Latest */

/** Messages between tabs. @typedef {{type: 'ask' | 'alive' | 'latest' | 'connection', latest?: Latest, isConnected?: boolean}} Message */

/**
 * @typedef {object} Handlers
 * @property {(count: number) => void} onCount
 * @property {() => Promise<boolean>} wantsConversations whether the list of conversations is needed now
 * @property {(view: WorkspaceView) => void} onConversations
 * @property {(isConnected: boolean) => void} onConnection
 */

/** Reconnect after this time without data, in ms. The server sends data at least every 20 s. */
const SILENCE_LIMIT = 45_000;
/** How often the tab with the stream notifies the other tabs that it is alive, in ms. */
const ALIVE_EVERY = 15_000;
/** If the tab with the stream is silent for this long, in ms, the browser has frozen it. Another tab takes over. */
const FROZEN_AFTER = 50_000;
/** The longest pause between two attempts to connect, in ms. */
const LONGEST_PAUSE = 30_000;
/** Retry interval after the API refused access, in ms. The user's role can change. */
const REFUSED_PAUSE = 60_000;
/** Retry interval after reading the list or the token failed, in ms. */
const READ_AGAIN = 2_000;

/** Watches the workspace for one user. */
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
        // Another tab has taken over the stream, or this tab is about to take it over.
      } finally {
        turn.abort();
        clearInterval(check);
        this.#ended.signal.removeEventListener('abort', end);
      }
      takesOver = this.#isFrozen();
    }
  }

  /** Returns an identifier of the signed-in user. Waits until there is a token. */
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

  /** Whether the tab with the stream is silent although this tab is visible. */
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
   * Informs the other tabs and this tab.
   * @param {Message} message
   */
  #tell(message) {
    if (!this.#ended.signal.aborted) this.#channel?.postMessage(message);
    this.#heard(message);
  }

  /** Keeps a stream open until this tab's turn ends. Reconnects after failures. @param {AbortSignal} turn */
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
   * Runs one connection. Returns the pause before the next connection. Throws if the connection failed.
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
      if (!answer.ok || !answer.body) throw new Error(`the stream request returned ${answer.status}`);
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

  /** Reads the list of conversations. Reads it again if it has changed in the meantime, but never twice concurrently. */
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
 * Pauses. The pause ends early if the network returns or if this tab must close the stream.
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
 * Identifies the token's user, so that tabs of other users on this origin do not receive this user's stream. The result is not
 * used for access control.
 * @param {string} token
 */
async function person(token) {
  try {
    const payload = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const { tenant_id: tenant, sub } = JSON.parse(atob(payload));
    if (typeof sub === 'string') return `${tenant}/${sub}`;
  } catch {
    // The token is not a JWT.
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(token)));
  return Array.from(digest.slice(0, 8), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
