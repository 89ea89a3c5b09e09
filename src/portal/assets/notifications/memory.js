// Settings that the page stores for the service worker, in the origin's cache storage. Contains only what any script of this
// origin can already get from the browser, never a token.

const CACHE = 'flametree-notify';
const KEY = '/.flametree-notify/subscription';

/**
 * @typedef {object} Memory
 * @property {string} api the API's base URL
 * @property {PushSubscriptionJSON | null} subscription as it was last registered
 * @property {string | null} id its id in the API
 * @property {string | null} publicKey it was created with
 * @property {string | null} sessionPath the portal's path of a session, with `{session_id}`; null: the path in messages
 * @property {boolean} isOff notifications were turned off here by `disable()`
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
 * Updates the given fields. Without storage nothing is stored, and the next page load registers again.
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
