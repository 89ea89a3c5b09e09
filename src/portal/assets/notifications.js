// The client module: notifications of a portal's user, and how many conversations wait, for any page to use.
//
//   import { NotificationsClient } from '/portal/notifications.js';
//   const client = new NotificationsClient({ token: () => session.token });
//   await client.start();
//
// docs/client-module.md tells the rest. No dependency, no build step.

import { Api } from './notifications/api.js';
import { FaviconDot } from './notifications/favicon.js';
import { hearOpenings, hearPermission } from './notifications/listening.js';
import { recall, remember } from './notifications/memory.js';
import { completed } from './notifications/options.js';
import { ResolvedCloser, closeAll, closeSession, hasShown, showAppBadge } from './notifications/shown.js';
import { isSupported, mustBeGranted, NotificationsError, stateOf, whyUnsupported } from './notifications/state.js';
import { ensure, publicKey, unsubscribe, workingWorker } from './notifications/subscription.js';
import { WorkspaceWatch } from './notifications/workspace.js';

export { ApiError } from './notifications/api.js';
export { NotificationsError } from './notifications/state.js';

/** @typedef {import('./notifications/state.js').NotificationState} NotificationState */
/** @typedef {import('./notifications/workspace.js').Conversation} Conversation */
/** @typedef {import('./notifications/listening.js').Opening} Opening */
/** @typedef {import('./notifications/options.js').Options} Options */

/** Notifications for one person who is signed in. Make a new one when somebody else signs in. */
export class NotificationsClient {
  #api;
  #options;
  /** @type {NotificationState | undefined} */
  #state;
  /** @type {NotificationsError | Error | null} */
  #fault = null;
  /** @type {Set<(state: NotificationState) => void>} */
  #stateListeners = new Set();
  /** @type {Set<(opening: Opening) => void>} */
  #openListeners = new Set();
  /** @type {ServiceWorkerRegistration | undefined} */
  #registration;
  #ended = new AbortController();
  /** What may be about to register this browser. @type {Promise<unknown>} */
  #registering = Promise.resolve();
  #isListening = false;
  #count = 0;
  /** @type {FaviconDot | undefined} */
  #dot;

  /** @param {Options} options */
  constructor(options) {
    this.#options = completed(options, import.meta.url);
    this.#api = new Api(this.#options.api, options.token);
  }

  /** Why notifications are not enabled although they should be; null: nothing went wrong. */
  get fault() {
    return this.#fault;
  }

  /**
   * Call once on each load of a page, when somebody is signed in. Where the person has allowed notifications, this browser is
   * registered again, with a new subscription if the deployment's key has changed: that keeps it from being forgotten.
   * Never throws for notifications: what went wrong is in `fault`.
   * @returns {Promise<NotificationState>}
   */
  async start() {
    this.#listen();
    const { signal } = this.#ended;
    try {
      this.#fault = null;
      const key = isSupported() ? await publicKey(this.#api) : undefined;
      if (key === undefined) throw whyUnsupported();
      if (key === null) return this.#set('not_configured');
      await remember({ api: this.#api.base, sessionPath: this.#options.sessionPath });
      this.#registration = await workingWorker(this.#options.worker, this.#options.scope);
      if (Notification.permission !== 'granted' || (await recall())?.isOff) {
        return this.#set(stateOf(Notification.permission, false));
      }
      await this.#ensure(key, signal);
      return this.#set('enabled');
    } catch (error) {
      return this.#failed(error);
    }
  }

  /**
   * The state now, without changing anything; also for roles that may not subscribe. @returns {Promise<NotificationState>}
   */
  async permissionState() {
    if (this.#state !== undefined) return this.#state;
    if (!isSupported()) return 'unsupported';
    if ((await publicKey(this.#api)) === null) return 'not_configured';
    const registration = await navigator.serviceWorker.getRegistration(this.#options.scope ?? this.#options.worker);
    const present = await registration?.pushManager.getSubscription();
    return stateOf(Notification.permission, present != null);
  }

  /**
   * Asks for the permission, subscribes and registers. Call it in a click, before anything else is awaited: browsers ask
   * only then. Throws a `NotificationsError` whose message can be shown.
   */
  async enable() {
    if (!isSupported()) throw whyUnsupported();
    const { signal } = this.#ended;
    const permission = await Notification.requestPermission();
    try {
      this.#fault = null;
      mustBeGranted(permission);
      const key = await publicKey(this.#api);
      if (key === null) {
        throw new NotificationsError('not_configured', 'Browser notifications are not set up on this deployment.');
      }
      this.#registration ??= await workingWorker(this.#options.worker, this.#options.scope);
      await remember({ isOff: false });
      await this.#ensure(key, signal);
      this.#set('enabled');
    } catch (error) {
      this.#failed(error);
      throw this.#fault;
    }
  }

  /**
   * Turns notifications off in this browser until `enable()`: ends the subscription and removes it from the API. Tells what
   * of it worked; one that is not removed is found gone by the first message to it.
   */
  async disable() {
    await remember({ isOff: true });
    const done = await unsubscribe(this.#api, await this.#registered());
    this.#set(isSupported() ? stateOf(Notification.permission, false) : 'unsupported');
    return done;
  }

  /**
   * Before the token is dropped: what `disable()` does, without keeping it off for the next one who signs in here; shown
   * notifications close, watching ends. Takes five seconds at most, and never throws.
   */
  signOut() {
    this.stop();
    return this.#leave(this.#api);
  }

  /**
   * In place of `start()`, for who may not subscribe: what somebody else has left in this browser, without signing out, shows
   * nothing any more. @returns {Promise<NotificationState>}
   */
  async release() {
    await this.#leave(null);
    return await this.permissionState().catch((error) => this.#failed(error));
  }

  /** Ends watching, listening and the dot; nothing of the subscription changes. */
  stop() {
    this.#ended.abort();
    this.#ended = new AbortController();
    this.#isListening = false;
    this.#dot?.remove();
    this.#dot = undefined;
    this.#showCount(0);
  }

  /**
   * Calls back with each new state, also when the person changes the browser's site settings. What it returns ends that.
   * @param {(state: NotificationState) => void} listener
   */
  onStateChange(listener) {
    this.#stateListeners.add(listener);
    return () => this.#stateListeners.delete(listener);
  }

  /**
   * Calls back when a notification was clicked while this page is open: show what it asks for. What it returns ends that.
   * @param {(opening: Opening) => void} listener
   */
  onOpen(listener) {
    this.#listen();
    this.#openListeners.add(listener);
    return () => this.#openListeners.delete(listener);
  }

  /**
   * Calls back with the number of active conversations, now and whenever it changes; for roles with the operator workspace.
   * All tabs of the person share one connection. Feeds the dot and the app's badge too, and closes the notifications of
   * conversations that were resolved.
   * @param {(count: number) => void} onCount
   * @param {{onConversations?: (conversations: Conversation[]) => void, onConnection?: (isConnected: boolean) => void}} [more]
   * @returns {() => void} ends it
   */
  watchWorkspace(onCount, { onConversations, onConnection } = {}) {
    const closer = new ResolvedCloser(() => this.#registered());
    const watch = new WorkspaceWatch(this.#api, {
      onCount: (count) => {
        this.#showCount(count);
        onCount(count);
      },
      wantsConversations: async () => onConversations !== undefined || (await hasShown(await this.#registered())),
      onConversations: (view) => {
        onConversations?.(view.conversations);
        closer.changed(view);
      },
      onConnection: (isConnected) => onConnection?.(isConnected),
    });
    this.#ended.signal.addEventListener('abort', () => watch.stop());
    watch.start();
    return () => {
      watch.stop();
      this.#showCount(0);
    };
  }

  /**
   * Marks the page's icon with a red dot while another tab is in front and at least one conversation is active. What it
   * returns ends that.
   */
  faviconDot() {
    this.#dot ??= new FaviconDot(document);
    this.#dot.show(this.#count);
    return () => {
      this.#dot?.remove();
      this.#dot = undefined;
    };
  }

  /**
   * Tells that the person has the session open: its notifications close.
   * @param {string} sessionId
   */
  async sessionOpened(sessionId) {
    await closeSession(await this.#registered(), sessionId);
  }

  /**
   * @param {string} key
   * @param {AbortSignal} signal from when this began: whoever has signed out since is not registered
   */
  async #ensure(key, signal) {
    const registration = /** @type {ServiceWorkerRegistration} */ (this.#registration);
    const { subscribeLimit: limit, label } = this.#options;
    const onLate = (/** @type {Promise<boolean>} */ registered) =>
      void registered.then(() => this.#set('enabled'), (error) => this.#failed(error));
    const work = ensure(this.#api, registration, { key, label, limit, signal, onLate });
    this.#registering = Promise.allSettled([this.#registering, work]);
    // What stands on the screen is of the one before.
    if (await work) await closeAll(registration);
  }

  /** @param {Api | null} api */
  async #leave(api) {
    const registration = await this.#registered().catch(() => undefined);
    const failed = { unsubscribed: false, removed: false };
    const done = await unsubscribe(api, registration, this.#registering).catch(() => failed);
    await closeAll(registration);
    return done;
  }

  /** @param {unknown} error */
  #failed(error) {
    this.#fault = error instanceof Error ? error : new Error(String(error));
    return this.#set(isSupported() ? stateOf(Notification.permission, false) : 'unsupported');
  }

  /** @param {NotificationState} state */
  #set(state) {
    if (this.#state !== state) {
      this.#state = state;
      for (const listener of this.#stateListeners) listener(state);
    }
    return state;
  }

  #listen() {
    if (this.#isListening || !isSupported()) return;
    this.#isListening = true;
    const { signal } = this.#ended;
    hearOpenings(signal, (opening) => {
      for (const listener of this.#openListeners) listener(opening);
    });
    hearPermission(signal, () => this.#permissionChanged());
  }

  #permissionChanged() {
    if (this.#state === undefined || this.#state === 'not_configured') return;
    // Somebody has allowed it in the site settings: that is what the button would have done.
    if (Notification.permission === 'granted') void this.start();
    else this.#set(stateOf(Notification.permission, false));
  }

  async #registered() {
    if (!isSupported()) return undefined;
    this.#registration ??= await navigator.serviceWorker.getRegistration(this.#options.scope ?? this.#options.worker);
    return this.#registration;
  }

  /** @param {number} count */
  #showCount(count) {
    this.#count = count;
    this.#dot?.show(count);
    showAppBadge(count);
  }
}
