// Settings that the page stores for the service worker, in the origin's cache storage. They never contain a token, only data that
// any script of this origin can get from the browser.

const CACHE = 'flametree-notify';
const KEY = '/.flametree-notify/subscription';

/**
 * @typedef {object} Memory
 * @property {string} api the API's base URL
 * @property {PushSubscriptionJSON | null} subscription the subscription that was last registered
 * @property {string | null} id the subscription's id in the API
 * @property {string | null} publicKey the key that the subscription was created with
 * @property {string | null} sessionPath the portal's path of a session, with `{session_id}`; if null, clicks open the path in the
 * message
 * @property {boolean} isOff true if `disable()` has turned off notifications in this browser
 */

/** @returns {Promise<Memory | null>} */
export async function recall() {
  try {
    const found = await (await caches.open(CACHE)).match(KEY);
    return found ? await found.json() : null;
  } catch {
    return null;
  }
}

/**
 * Updates the given fields. In a browser without storage it does nothing, and the next page load registers again.
 * @param {Partial<Memory>} change
 */
export async function remember(change) {
  const blank = { api: '', subscription: null, id: null, publicKey: null, sessionPath: null, isOff: false };
  const memory = { ...blank, ...(await recall()), ...change };
  try {
    await (await caches.open(CACHE)).put(KEY, new Response(JSON.stringify(memory)));
  } catch {
    // The browser stores nothing for this page, as in some private windows.
  }
}
