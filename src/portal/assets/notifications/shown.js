// The notifications that stand on the screen: closed when there is nothing more to do about them.

/** @typedef {import('./workspace.js').WorkspaceView} WorkspaceView */

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

/**
 * Closes those of sessions that were in the workspace and are not any more. What was sent after the view was read may be of
 * a session that came later; and of more sessions than are listed nobody can say which are missing.
 * @param {ServiceWorkerRegistration | undefined} registration
 * @param {WorkspaceView} view
 */
export async function closeResolved(registration, view) {
  if (view.count > view.conversations.length) return;
  const active = new Set(view.conversations.map((conversation) => conversation.session_id));
  const readAt = Date.parse(view.as_of);
  for (const shown of (await registration?.getNotifications()) ?? []) {
    const { session_id: session, sent_at: sentAt } = shown.data ?? {};
    if (session && !active.has(session) && Date.parse(sentAt) < readAt) shown.close();
  }
}

/** @param {ServiceWorkerRegistration | undefined} registration */
export async function hasShown(registration) {
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
