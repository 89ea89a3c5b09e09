// The service worker: shows each push as one notification, opens the portal by a click, and renews the subscription.
//
// It may be started at any time with no page open, so it keeps nothing in memory. The page leaves it, in the cache storage
// (notifications/memory.js), where the API is, where sessions are shown, and the subscription as it was last registered.

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

// A new version takes over at once: the page and the worker come from the same server.
worker.addEventListener('install', () => void worker.skipWaiting());
worker.addEventListener('activate', (event) => event.waitUntil(worker.clients.claim()));

/**
 * The message, if it is one; whatever else a push service brought is told as what it is.
 * @param {PushMessageData | null} data
 */
function read(data) {
  try {
    const message = data?.json();
    if (typeof message?.body === 'string') return message;
  } catch {
    // No JSON.
  }
  return { body: UNREADABLE };
}

/**
 * A path on this origin; null: it is none.
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
    // One for each push, whatever it was and whoever looks: Safari ends subscriptions after silent ones.
    await worker.registration.showNotification(text(message.title) ?? TITLE, /** @type {NotificationOptions} */ ({
      body: message.body,
      tag,
      // The next message of a session takes the place of the one before, and is heard all the same.
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
      // Some browsers do not let every click focus; the tab shows the session all the same.
    }
    tab.postMessage({ type: 'flametree-open', url: target, session_id: session ?? null });
  };
  event.waitUntil(open());
});

// The push service has given up the subscription. No page need be open and no token need be valid: what only this browser and
// the API know, the old subscription, is what the new one is believed by. Where that fails, the next load of a page registers.
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
