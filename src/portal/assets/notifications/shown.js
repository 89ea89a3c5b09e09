// The notifications that stand on the screen: closed when there is nothing more to do about them.
//
// Chromium drops a notification for which a page asks after it was stored and before the desktop has it. An event that
// changes the workspace often sends one at once: whoever looks because of a change lets it come first.

/** @typedef {import('./workspace.js').WorkspaceView} WorkspaceView */

/** How long after a change its notifications are surely shown. */
const PUSHED_WITHIN = 3_000;
/** Where one change follows the other, the last one seen is acted on after this long. */
const LONGEST_WAIT = 15_000;

/** @param {ServiceWorkerRegistration | undefined} registration */
export async function closeAll(registration) {
  for (const shown of (await registration?.getNotifications()) ?? []) shown.close();
}

/**
 * Closes those of a session. Their tag is the session's id.
 * @param {ServiceWorkerRegistration | undefined} registration
 * @param {string} sessionId
 */
export async function closeSession(registration, sessionId) {
  for (const shown of (await registration?.getNotifications({ tag: sessionId })) ?? []) shown.close();
}

/** Closes those of sessions that were in the workspace and are not any more, some seconds after each change of it. */
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
   * What was sent after the view was read may be of a session that came later; and of more sessions than are listed nobody
   * can say which are missing.
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
 * Whether there are any, some seconds from now.
 * @param {ServiceWorkerRegistration | undefined} registration
 */
export async function hasShown(registration) {
  await new Promise((resolve) => setTimeout(resolve, PUSHED_WITHIN));
  return ((await registration?.getNotifications()) ?? []).length > 0;
}

/**
 * The number on the app's own icon: of pages that were installed as an app; elsewhere it is refused or unknown.
 * @param {number} count
 */
export function showAppBadge(count) {
  const shown = count > 0 ? navigator.setAppBadge?.(count) : navigator.clearAppBadge?.();
  shown?.catch(() => {});
}
