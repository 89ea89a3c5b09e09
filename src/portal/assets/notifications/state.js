// The states of notifications in a browser, and errors with messages for the user.

/**
 * `unsupported`: this browser does not support notifications. `not_configured`: this deployment has no browser push, so show
 * nothing. `not_enabled`: a click can enable notifications. `enabled`: this browser is registered for the signed-in user.
 * `blocked`: the browser blocks notifications, and only its site settings can change that.
 * @typedef {'unsupported' | 'not_configured' | 'not_enabled' | 'enabled' | 'blocked'} NotificationState
 */

/**
 * `dismissed`: the user closed the browser's prompt. `timeout`: the browser's push service did not respond. `push_service`: the
 * push service rejected the request. `refused`: the API rejected the request. `unreachable`: the API did not respond. `ended`:
 * the user signed out in the meantime.
 * @typedef {'unsupported' | 'not_configured' | 'blocked' | 'dismissed' | 'timeout' | 'push_service' | 'refused' |
 *   'unreachable' | 'ended'} NotificationFault
 */

/** An error whose message can be shown to the user. */
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

/** Whether the browser supports notifications on this page. It does not without https, and not in some private windows. */
export function isSupported() {
  return 'serviceWorker' in navigator && 'PushManager' in globalThis && 'Notification' in globalThis;
}

/** An error for the user that explains why notifications are not supported. */
export function whyUnsupported() {
  // iPads identify as Macs, but Macs have no multi-touch screen.
  const isIPad = /Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1;
  const text =
    isIPad || /iPad|iPhone|iPod/.test(navigator.userAgent)
      ? 'Add this site to the Home Screen (Share, then Add to Home Screen) and open it from there: only then can it send ' +
        'notifications on this device.'
      : 'This browser cannot receive notifications on this page.';
  return new NotificationsError('unsupported', text);
}

/**
 * Derives the state from the permission and the subscription.
 * @param {NotificationPermission} permission
 * @param {boolean} isRegistered
 * @returns {NotificationState}
 */
export function stateOf(permission, isRegistered) {
  if (permission === 'denied') return 'blocked';
  return permission === 'granted' && isRegistered ? 'enabled' : 'not_enabled';
}

/**
 * Throws unless the user and the browser allow notifications.
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
