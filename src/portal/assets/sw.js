// The service worker. It shows each push as one notification, opens the portal on a click, and renews the subscription.
//
// The browser can start the service worker at any time, even with no page open, so it keeps no state in memory. The page stores
// the API's URL, the session path and the last registered subscription in the cache storage (notifications/memory.js).

/// <reference lib="webworker" />

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));

const CACHE = 'flametree-notify';
const KEY = '/.flametree-notify/subscription';
const TITLE = 'Flametree';
const UNREADABLE = 'There is something new for you. Open the portal to see it.';

/** @typedef {import('./notifications/memory.js').Memory} Memory */

/** @returns {Promise<Memory | null>} */
async function recall() {
  try {
    const found = await (await caches.open(CACHE)).match(KEY);
    return found ? await found.json() : null;
  } catch {
    return null;
  }
}

/** @param {Memory} memory */
async function remember(memory) {
  await (await caches.open(CACHE)).put(KEY, new Response(JSON.stringify(memory)));
}

// A new version of the worker takes over at once, because the pages come from the same server and have the same version.
worker.addEventListener('install', () => void worker.skipWaiting());
worker.addEventListener('activate', (event) => event.waitUntil(worker.clients.claim()));

/**
 * The message of a push, or a generic message if the push is not readable.
 * @param {PushMessageData | null} data
 */
function read(data) {
  try {
    const message = data?.json();
    if (typeof message?.body === 'string') return message;
  } catch {
    // The data is not JSON.
  }
  return { body: UNREADABLE };
}

/**
 * The path of a URL on this origin; null for any other URL.
 * @param {unknown} url
 */
function own(url) {
  if (typeof url !== 'string') return null;
  try {
    const found = new URL(url, worker.location.origin);
    return found.origin === worker.location.origin ? found.href : null;
  } catch {
    return null;
  }
}

/** @param {unknown} text */
const text = (text) => (typeof text === 'string' && text !== '' ? text : undefined);

worker.addEventListener('push', (event) => {
  const message = read(event.data);
  const show = async () => {
    const session = text(message.session_id) ?? null;
    const path = session === null ? null : (await recall())?.sessionPath?.replace('{session_id}', encodeURIComponent(session));
    const tag = text(message.tag) ?? 'flametree';
    const sentAt = Date.parse(message.sent_at);
    // Shows exactly one notification per push, even if the page is visible to the user, because Safari ends subscriptions after
    // silent pushes.
    await worker.registration.showNotification(text(message.title) ?? TITLE, /** @type {NotificationOptions} */ ({
      body: message.body,
      tag,
      // The next message of a session replaces the previous one and alerts the user again.
      renotify: true,
      icon: new URL('icons/notification.png', worker.location.href).href,
      timestamp: Number.isNaN(sentAt) ? Date.now() : sentAt,
      data: { url: own(path ?? message.url) ?? worker.registration.scope, session_id: session, sent_at: message.sent_at },
    }));
  };
  event.waitUntil(show());
});

worker.addEventListener('notificationclick', (event) => {
  event.notification.close();
  const { url, session_id: session } = event.notification.data ?? {};
  const target = own(url) ?? worker.registration.scope;
  const open = async () => {
    const tabs = await worker.clients.matchAll({ type: 'window', includeUncontrolled: true });
    const portal = tabs.filter((tab) => tab.url.startsWith(worker.registration.scope));
    const tab = portal.find(({ url }) => url === target) ?? portal.find(({ focused }) => focused) ?? portal[0];
    if (!tab) return void (await worker.clients.openWindow(target));
    try {
      await tab.focus();
    } catch {
      // Some browsers refuse to focus a tab after some clicks. The tab shows the session even if it does not get the focus.
    }
    tab.postMessage({ type: 'flametree-open', url: target, session_id: session ?? null });
  };
  event.waitUntil(open());
});

// The push service has dropped the subscription. There might be no open page and no valid token, so the old subscription
// authenticates the request: only this browser and the API know it. If the request fails, the next page load registers this
// browser.
worker.addEventListener('pushsubscriptionchange', (event) => {
  const change = /** @type {PushSubscriptionChangeEvent} */ (event);
  const renew = async () => {
    const memory = await recall();
    const old = memory?.subscription;
    const key = change.oldSubscription?.options.applicationServerKey ?? null;
    if (!memory || !old) return;
    const made =
      change.newSubscription ??
      (await worker.registration.pushManager.subscribe({
        userVisibleOnly: true,
        applicationServerKey: key ?? memory.publicKey,
      }));
    const fresh = made.toJSON();
    const answer = await fetch(new URL('v1/push/renewals', memory.api), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ old, new: fresh }),
      credentials: 'omit',
    });
    if (answer.ok) await remember({ ...memory, subscription: fresh });
  };
  change.waitUntil(renew());
});
