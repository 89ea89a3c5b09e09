// Events for an open page: clicks on notifications, and changes of the permission.

/** @typedef {{url: string, sessionId: string | null}} Opening the page to show after a click on a notification */

/**
 * Reports each click on a notification.
 * @param {AbortSignal} signal stops the reports
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
 * Reports changes of the permission, in browsers that support it.
 * @param {AbortSignal} signal stops the reports
 * @param {() => void} onChange
 */
export function hearPermission(signal, onChange) {
  navigator.permissions?.query({ name: 'notifications' }).then(
    (permission) => permission.addEventListener('change', onChange, { signal }),
    () => {},
  );
}
