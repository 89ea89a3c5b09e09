// Closes shown notifications that are no longer relevant.
//
// Chromium drops a notification if a page queries the notifications after the notification was stored and before it is displayed.
// A change of the workspace often causes a notification at once, so this module waits a few seconds before it queries.

/** @typedef {import('./workspace.js').WorkspaceView} WorkspaceView */

/** Time after a change of the workspace until its notifications are certainly shown, in ms. */
const PUSHED_WITHIN = 3_000;
/** If changes never pause, notifications are closed after this time, in ms. */
const LONGEST_WAIT = 15_000;

/** @param {ServiceWorkerRegistration | undefined} registration */
export async function closeAll(registration) {
  for (const shown of (await registration?.getNotifications()) ?? []) shown.close();
}

/**
 * Closes the notifications of a session. Their tag is the session's id.
 * @param {ServiceWorkerRegistration | undefined} registration
 * @param {string} sessionId
 */
export async function closeSession(registration, sessionId) {
  for (const shown of (await registration?.getNotifications({ tag: sessionId })) ?? []) shown.close();
}

/** A few seconds after each change, closes notifications of sessions that have left the workspace. */
export class ResolvedCloser {
  #registered;
  /** @type {WorkspaceView | undefined} */
  #view;
  #waitsSince = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {() => Promise<ServiceWorkerRegistration | undefined>} registered */
  constructor(registered) {
    this.#registered = registered;
  }

  /** @param {WorkspaceView} view */
  changed(view) {
    const now = performance.now();
    if (!this.#view) this.#waitsSince = now;
    this.#view = view;
    clearTimeout(this.#timer);
    const wait = Math.min(PUSHED_WITHIN, this.#waitsSince + LONGEST_WAIT - now);
    this.#timer = setTimeout(() => void this.#close().catch(() => {}), Math.max(0, wait));
  }

  /**
   * Keeps notifications that are newer than the view, because their sessions might not be in the view yet. Closes nothing if the
   * view does not list all sessions, because a missing session can still be active.
   */
  async #close() {
    const view = this.#view;
    this.#view = undefined;
    if (!view || view.count > view.conversations.length) return;
    const active = new Set(view.conversations.map((conversation) => conversation.session_id));
    const readAt = Date.parse(view.as_of);
    for (const shown of (await (await this.#registered())?.getNotifications()) ?? []) {
      const { session_id: session, sent_at: sentAt } = shown.data ?? {};
      if (session && !active.has(session) && Date.parse(sentAt) < readAt) shown.close();
    }
  }
}

/**
 * Waits a few seconds, then returns whether any notification is shown.
 * @param {ServiceWorkerRegistration | undefined} registration
 */
export async function hasShown(registration) {
  await new Promise((resolve) => setTimeout(resolve, PUSHED_WITHIN));
  return ((await registration?.getNotifications()) ?? []).length > 0;
}

/**
 * Sets the badge on the icon of an installed app. Other pages have no badge, so errors are ignored.
 * @param {number} count
 */
export function showAppBadge(count) {
  const shown = count > 0 ? navigator.setAppBadge?.(count) : navigator.clearAppBadge?.();
  shown?.catch(() => {});
}
