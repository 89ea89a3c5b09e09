// The client module for any portal page: notifications for its user, and the number of active conversations.
//
//   import { NotificationsClient } from '/portal/notifications.js';
//   const client = new NotificationsClient({ token: () => session.token });
//   await client.start();
//
// See docs/client-module.md. This module has no dependencies and no build step.

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

/** Notifications for one signed-in user. Create a new client when another user signs in. */
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
  /** A pending registration of this browser. @type {Promise<unknown>} */
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

  /** The error because of which notifications are not enabled; null without an error. */
  get fault() {
    return this.#fault;
  }

  /**
   * Call this method once on each page load when a user is signed in. If notifications are allowed, it registers this browser
   * again, with a new subscription if the deployment's key has changed. The service removes browsers that are not registered
   * again. The method never throws: it stores an error in `fault`.
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
   * Returns the state without changing it, even for users who may not subscribe. @returns {Promise<NotificationState>}
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
   * Asks for the permission, subscribes and registers. Call this method in a click handler before any `await`, because browsers
   * ask only after a click. Throws a `NotificationsError` with a message for the user.
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
   * Turns notifications off in this browser until `enable()` is called: ends the subscription and removes it from the API.
   * Returns which of these two steps succeeded. If the API still has the subscription, the API removes it when the next message
   * to it fails.
   */
  async disable() {
    await remember({ isOff: true });
    const done = await unsubscribe(this.#api, await this.#registered());
    this.#set(isSupported() ? stateOf(Notification.permission, false) : 'unsupported');
    return done;
  }

  /**
   * Call this method before you drop the token. Works like `disable()`, but the next user who signs in gets notifications again.
   * Also closes shown notifications and stops watching. Takes at most five seconds and never throws.
   */
  signOut() {
    this.stop();
    return this.#leave(this.#api);
  }

  /**
   * Call this method instead of `start()` for users who may not subscribe. If an earlier user of this browser did not sign out,
   * the method ends that user's subscription. @returns {Promise<NotificationState>}
   */
  async release() {
    await this.#leave(null);
    return await this.permissionState().catch((error) => this.#failed(error));
  }

  /** Stops watching and listening, and removes the dot. Keeps the subscription. */
  stop() {
    this.#ended.abort();
    this.#ended = new AbortController();
    this.#isListening = false;
    this.#dot?.remove();
    this.#dot = undefined;
    this.#showCount(0);
  }

  /**
   * Reports each new state, including changes in the browser's site settings. Returns a function that stops the reports.
   * @param {(state: NotificationState) => void} listener
   */
  onStateChange(listener) {
    this.#stateListeners.add(listener);
    return () => this.#stateListeners.delete(listener);
  }

  /**
   * Reports each click on a notification, so that the page can show the session. Returns a function that stops the reports.
   * @param {(opening: Opening) => void} listener
   */
  onOpen(listener) {
    this.#listen();
    this.#openListeners.add(listener);
    return () => this.#openListeners.delete(listener);
  }

  /**
   * For roles with the operator workspace: reports the number of active conversations now and after each change. A user's tabs
   * share one connection. Also updates the dot and the app's badge, and closes notifications of resolved conversations.
   * @param {(count: number) => void} onCount
   * @param {{onConversations?: (conversations: Conversation[]) => void, onConnection?: (isConnected: boolean) => void}} [more]
   * @returns {() => void} stops the reports
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
   * Shows a red dot on the page's icon while another tab is in front and at least one conversation is active. Returns a
   * function that removes the dot.
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
   * Call this method when the user opens a session. It closes the notifications of the session.
   * @param {string} sessionId
   */
  async sessionOpened(sessionId) {
    await closeSession(await this.#registered(), sessionId);
  }

  /**
   * @param {string} key
   * @param {AbortSignal} signal aborted when the user signs out, to cancel the registration
   */
  async #ensure(key, signal) {
    const registration = /** @type {ServiceWorkerRegistration} */ (this.#registration);
    const { subscribeLimit: limit, label } = this.#options;
    const onLate = (/** @type {Promise<boolean>} */ registered) =>
      void registered.then(() => this.#set('enabled'), (error) => this.#failed(error));
    const work = ensure(this.#api, registration, { key, label, limit, signal, onLate });
    this.#registering = Promise.allSettled([this.#registering, work]);
    // The shown notifications belong to the previous user of this browser.
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
    // If the user allows notifications in the site settings, no click is needed.
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
