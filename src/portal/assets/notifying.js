// Notifications for the portal's pages: the state, the dialog and the number of conversations. Uses the client module.

import { fillError, h, icon } from './dom.js';
import { NotificationsClient } from './notifications.js';
import { toast } from './windows.js';

/** After the user closes the dialog, it is never shown again in this browser. */
const CLOSED = 'flametree.notifications-dialog-closed';
export const SUBSCRIBED = 'Successfully subscribed to push notifications';

/** Notifications and the workspace of the signed-in user. */
export class Notifying {
  #client;
  #session;
  #listeners = new Set();
  #workspace = { count: 0, conversations: null, isConnected: true };
  #workspaceListeners = new Set();
  #dialog = null;

  /** @param {import("./session.js").Session} session */
  constructor(session) {
    this.#session = session;
    this.#client = new NotificationsClient({ token: () => session.token });
    /** @type {import("./notifications.js").NotificationState | null} null: not known yet */
    this.state = null;
  }

  /** Whether browser push is set up on this deployment. */
  get isOffered() {
    return this.#session.me.browser_push;
  }

  /** Whether the user may change notifications. */
  get mayChange() {
    return this.#session.may('subscribe_browsers') && this.#session.isPerson;
  }

  /** Why notifications are not enabled although they should be. */
  get fault() {
    return this.#client.fault;
  }

  /**
   * @param {(count: number) => void} onCount number of active conversations
   * @param {(address: string) => void} open opens the address of a clicked notification
   */
  start(onCount, open) {
    this.#client.onStateChange((state) => this.#is(state));
    if (this.#session.may('use_workspace')) this.#watch(onCount);
    if (!this.isOffered) return;
    this.#client.onOpen(({ url }) => open(url));
    if (this.mayChange) this.#client.start().then((state) => this.#began(state));
    else this.#client.release().then((state) => this.#is(state));
  }

  #watch(onCount) {
    this.#client.faviconDot();
    this.#client.watchWorkspace(
      (count) => {
        onCount(count);
        this.#sees({ count });
      },
      {
        onConversations: (conversations) => this.#sees({ conversations }),
        onConnection: (isConnected) => this.#sees({ isConnected }),
      },
    );
  }

  #sees(news) {
    Object.assign(this.#workspace, news);
    for (const listener of this.#workspaceListeners) listener(this.#workspace);
  }

  #began(state) {
    this.#is(state);
    // The dialog could not correct an error, so only the Profile page shows the error.
    if (state === 'not_enabled' && this.fault === null && !wasClosed()) this.#invite();
  }

  #is(state) {
    this.state = state;
    for (const listener of this.#listeners) listener(state);
  }

  /** Reports the state now and after each change. Returns a function that stops the reports. */
  onState(listener) {
    this.#listeners.add(listener);
    if (this.state !== null) listener(this.state);
    return () => this.#listeners.delete(listener);
  }

  /** Reports the workspace now, if it is known, and after each change. */
  onWorkspace(listener) {
    this.#workspaceListeners.add(listener);
    listener(this.#workspace);
    return () => this.#workspaceListeners.delete(listener);
  }

  /** Call this in a click handler. @throws {Error} with a message for the user */
  async enable() {
    await this.#client.enable();
  }

  async disable() {
    await this.#client.disable();
  }

  sessionOpened(id) {
    this.#client.sessionOpened(id).catch(() => {});
  }

  async signOut() {
    await this.#client.signOut();
  }

  stop() {
    this.#client.stop();
    this.#listeners.clear();
    this.#workspaceListeners.clear();
    this.#dialog?.remove();
  }

  /** The dialog that asks users at sign-in to enable notifications. */
  #invite() {
    const error = h('p', { class: 'error', role: 'alert' });
    const allow = h('button', { class: 'button primary', type: 'button', autofocus: true }, 'Allow notifications');
    const close = h('button', { class: 'button quiet icon close', type: 'button', 'aria-label': 'Close' }, icon('close'));
    const dialog = h(
      'dialog',
      { class: 'narrow', 'aria-labelledby': 'invitation', 'aria-describedby': 'invitation-text' },
      h(
        'div',
        { class: 'invitation' },
        close,
        h('div', { class: 'emblem' }, icon('bell', 26)),
        h('h2', { id: 'invitation' }, 'Enable notifications'),
        h(
          'p',
          { class: 'muted', id: 'invitation-text' },
          'Get a notification when a session is assigned to you, or when a customer writes in a session you handle, ' +
            'even if this tab is closed.',
        ),
        error,
        allow,
      ),
    );
    this.#dialog = dialog;
    close.addEventListener('click', () => dialog.close());
    allow.addEventListener('click', async () => {
      if (allow.getAttribute('aria-busy') === 'true') return;
      allow.setAttribute('aria-busy', 'true');
      fillError(error, null);
      try {
        await this.enable();
        dialog.close();
        toast(SUBSCRIBED);
      } catch (problem) {
        fillError(error, problem.message);
      } finally {
        allow.removeAttribute('aria-busy');
      }
    });
    dialog.addEventListener('close', () => {
      // The user might have allowed notifications in the meantime.
      if (this.state !== 'enabled') rememberClosed();
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  }
}

function wasClosed() {
  try {
    return localStorage.getItem(CLOSED) !== null;
  } catch {
    return false;
  }
}

function rememberClosed() {
  try {
    localStorage.setItem(CLOSED, 'yes');
  } catch {
    // In a browser without storage, the dialog is shown again.
  }
}
