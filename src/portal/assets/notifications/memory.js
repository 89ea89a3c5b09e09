// What the page leaves for the service worker, which has no page to ask: kept in the origin's cache storage.
// Nothing here is more than the browser itself tells any script of this origin; no token is ever kept.

const CACHE = 'flametree-notify';
const KEY = '/.flametree-notify/subscription';

/**
 * @typedef {object} Memory
 * @property {string} api where the API is
 * @property {PushSubscriptionJSON | null} subscription as it was last registered
 * @property {string | null} id by which the API knows it
 * @property {string | null} publicKey that it was made with
 * @property {string | null} sessionPath where the portal shows a session, with `{session_id}`; null: as messages say
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
 * Changes what is given and keeps the rest. Without storage nothing is kept: then the next load registers anew.
 * @param {Partial<Memory>} change
 */
export async function remember(change) {
  const blank = { api: '', subscription: null, id: null, publicKey: null, sessionPath: null, isOff: false };
  const memory = { ...blank, ...(await recall()), ...change };
  try {
    await (await caches.open(CACHE)).put(KEY, new Response(JSON.stringify(memory)));
  } catch {
    // The browser keeps nothing for this page, as in some private windows.
  }
}
