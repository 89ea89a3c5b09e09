// What a page hears of while it is open: clicks on notifications, and changes in the browser's site settings.

/** @typedef {{url: string, sessionId: string | null}} Opening what a click on a notification asks an open page to show */

/**
 * Calls back with each click on a notification.
 * @param {AbortSignal} signal ends it
 * @param {(opening: Opening) => void} onOpening
 */
export function hearOpenings(signal, onOpening) {
  const heard = (/** @type {MessageEvent} */ { data }) => {
    if (data?.type === 'flametree-open') onOpening({ url: data.url, sessionId: data.session_id ?? null });
  };
  navigator.serviceWorker.addEventListener('message', heard, { signal });
  navigator.serviceWorker.startMessages();
}

/**
 * Calls back when the person has changed the permission; not every browser can tell.
 * @param {AbortSignal} signal ends it
 * @param {() => void} onChange
 */
export function hearPermission(signal, onChange) {
  navigator.permissions?.query({ name: 'notifications' }).then(
    (permission) => permission.addEventListener('change', onChange, { signal }),
    () => {},
  );
}
