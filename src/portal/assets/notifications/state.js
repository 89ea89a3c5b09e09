// What notifications can be in one browser, and what can go wrong, in words for the person in front of it.

/**
 * `unsupported`: this browser cannot. `not_configured`: this deployment has no browser push; show nothing.
 * `not_enabled`: a click may change that. `enabled`: this browser is registered for who is signed in.
 * `blocked`: only the browser's site settings can change that.
 * @typedef {'unsupported' | 'not_configured' | 'not_enabled' | 'enabled' | 'blocked'} NotificationState
 */

/**
 * `dismissed`: the browser's question was closed without an answer. `timeout`: the browser's push service did not answer.
 * `push_service`: it refused. `refused`: the API did. `unreachable`: the API was not reached. `ended`: the person has signed
 * out meanwhile.
 * @typedef {'unsupported' | 'not_configured' | 'blocked' | 'dismissed' | 'timeout' | 'push_service' | 'refused' |
 *   'unreachable' | 'ended'} NotificationFault
 */

/** What went wrong; the message can be shown as it is. */
export class NotificationsError extends Error {
  /**
   * @param {NotificationFault} code
   * @param {string} message
   * @param {unknown} [cause]
   */
  constructor(code, message, cause) {
    super(message, { cause });
    this.name = 'NotificationsError';
    this.code = code;
  }
}

/** Whether the browser has what notifications need; not in a page without https, nor in some private windows. */
export function isSupported() {
  return 'serviceWorker' in navigator && 'PushManager' in globalThis && 'Notification' in globalThis;
}

/** Why not, in words. */
export function whyUnsupported() {
  // An iPad says that it is a Mac, and no Mac is touched with several fingers.
  const isIPad = /Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1;
  const text =
    isIPad || /iPad|iPhone|iPod/.test(navigator.userAgent)
      ? 'Add this site to the Home Screen (Share, then Add to Home Screen) and open it from there: only then can it send ' +
        'notifications on this device.'
      : 'This browser cannot receive notifications on this page.';
  return new NotificationsError('unsupported', text);
}

/**
 * The state that the permission and the subscription make.
 * @param {NotificationPermission} permission
 * @param {boolean} isRegistered
 * @returns {NotificationState}
 */
export function stateOf(permission, isRegistered) {
  if (permission === 'denied') return 'blocked';
  return permission === 'granted' && isRegistered ? 'enabled' : 'not_enabled';
}

/**
 * Throws where the person, or the browser, has not allowed notifications.
 * @param {NotificationPermission} permission
 */
export function mustBeGranted(permission) {
  if (permission === 'denied') {
    const text = "The browser blocks notifications for this site. Allow them in the browser's site settings.";
    throw new NotificationsError('blocked', text);
  }
  if (permission !== 'granted') {
    throw new NotificationsError('dismissed', 'The browser was not allowed to show notifications.');
  }
}
