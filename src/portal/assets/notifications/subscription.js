// Creates, registers, renews and removes this browser's push subscription.

import { ApiError } from './api.js';
import { recall, remember } from './memory.js';
import { NotificationsError } from './state.js';

/** @typedef {import('./api.js').Api} Api */

/** Timeout for the removal of a subscription, in ms. It is short, because signing out waits for the removal. */
const REMOVAL_LIMIT = 5_000;

/** @type {any} created only once, because a page may forbid duplicate policy names */
let policy;

/**
 * The worker's URL as a trusted URL, for pages whose Content-Security-Policy requires Trusted Types. That policy must allow
 * `flametree-notifications`.
 * @param {string} url
 */
function trusted(url) {
  const { trustedTypes } = /** @type {any} */ (globalThis);
  if (!trustedTypes) return url;
  policy ??= trustedTypes.createPolicy('flametree-notifications', {
    createScriptURL: (/** @type {string} */ text) => {
      if (new URL(text, location.href).origin !== location.origin) throw new TypeError('a worker of another origin');
      return text;
    },
  });
  return policy.createScriptURL(url);
}

/**
 * Registers the service worker and waits until it is active.
 * @param {string} url
 * @param {string | undefined} scope
 */
export async function workingWorker(url, scope) {
  const options = { updateViaCache: /** @type {const} */ ('none'), ...(scope === undefined ? {} : { scope }) };
  const registration = await navigator.serviceWorker.register(trusted(url), options);
  const coming = registration.active ?? registration.waiting ?? registration.installing;
  await new Promise((resolve, reject) => {
    const look = () => {
      if (registration.active) resolve(undefined);
      else if (!coming || coming.state === 'redundant') reject(new Error('the service worker was not installed'));
    };
    coming?.addEventListener('statechange', look);
    look();
  });
  return registration;
}

/**
 * The key with which browsers subscribe; null if this deployment has no browser push.
 * @param {Api} api
 * @returns {Promise<string | null>}
 */
export async function publicKey(api) {
  try {
    return (await api.json('GET', 'v1/push/vapid-public-key')).public_key;
  } catch (error) {
    if (error instanceof ApiError && error.code === 'browser_push_not_configured') return null;
    throw error;
  }
}

/**
 * @typedef {object} Wish
 * @property {string} key
 * @property {string} label
 * @property {number} limit in ms; some browsers would wait for their push service forever
 * @property {AbortSignal} signal aborted when the user signs out
 * @property {(registered: Promise<boolean>) => void} onLate called when a subscription arrives after the limit
 */

/**
 * Registers a subscription with the key of `wish`: the existing subscription, or a new one if the existing one has another key.
 * Returns whether another user had registered this browser before.
 * @param {Api} api
 * @param {ServiceWorkerRegistration} registration
 * @param {Wish} wish
 */
export async function ensure(api, registration, wish) {
  const present = await registration.pushManager.getSubscription();
  if (present && isOf(present, wish.key)) {
    try {
      return await register(api, present, wish);
    } catch (error) {
      // Another user has registered this endpoint with another secret, so this browser needs a new subscription.
      const cause = error instanceof NotificationsError ? error.cause : null;
      if (!(cause instanceof ApiError && cause.status === 409)) throw error;
    }
  }
  await present?.unsubscribe();
  return await register(api, await subscribe(api, registration, wish), wish);
}

/**
 * @param {Api} api
 * @param {ServiceWorkerRegistration} registration
 * @param {Wish} wish
 */
async function subscribe(api, registration, wish) {
  const { key, limit, signal, onLate } = wish;
  mustBeWished(signal);
  const made = registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(key) });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const over = new Promise((resolve) => {
    timer = setTimeout(resolve, limit, null);
    signal.addEventListener('abort', () => resolve(null));
  });
  try {
    const first = await Promise.race([made, over]);
    if (first) return /** @type {PushSubscription} */ (first);
  } catch (cause) {
    const text = "The browser's push service refused. Check the connection and the browser's settings, then try again.";
    throw new NotificationsError('push_service', text, cause);
  } finally {
    clearTimeout(timer);
  }
  made.then((late) => (signal.aborted ? drop(late) : onLate(register(api, late, wish))), () => {});
  mustBeWished(signal);
  const seconds = Math.round(limit / 1000);
  const text = `The browser's push service did not respond within ${seconds} seconds. Check the connection, then try again.`;
  throw new NotificationsError('timeout', text);
}

/** @param {AbortSignal} signal */
function mustBeWished(signal) {
  if (signal.aborted) throw new NotificationsError('ended', 'You have been signed out.');
}

/**
 * Ends a subscription that arrived after the user signed out, unless the next user has already registered it.
 * @param {PushSubscription} late
 */
async function drop(late) {
  if ((await recall())?.subscription?.endpoint !== late.endpoint) await late.unsubscribe();
}

/**
 * Registers the subscription for the signed-in user and stores it for the service worker.
 * @param {Api} api
 * @param {PushSubscription} subscribed
 * @param {Wish} wish
 */
async function register(api, subscribed, { key, label, signal }) {
  if (signal.aborted) await drop(subscribed);
  mustBeWished(signal);
  const json = subscribed.toJSON();
  let id;
  try {
    ({ id } = await api.json('PUT', 'v1/me/push-subscriptions', { body: { ...json, label } }));
  } catch (cause) {
    if (!(cause instanceof ApiError)) throw cause;
    const isUnknown = cause.status === 422;
    const text = isUnknown ? "This deployment does not send to this browser's push service." : cause.message;
    throw new NotificationsError('refused', text, cause);
  }
  // The API assigns a new id to a browser when another user signs in.
  const known = (await recall())?.id ?? null;
  await remember({ subscription: json, id, publicKey: key, api: api.base });
  return known !== null && known !== id;
}

/**
 * Ends the subscription in the browser and removes it from the API. The two steps run in parallel and do not depend on each
 * other.
 * @param {Api | null} api null for users who may not subscribe: then the subscription ends only in the browser
 * @param {ServiceWorkerRegistration | undefined} registration
 * @param {Promise<unknown>} [registering] a pending registration
 * @returns {Promise<{unsubscribed: boolean, removed: boolean}>}
 */
export async function unsubscribe(api, registration, registering) {
  const memory = await recall();
  const present = await registration?.pushManager.getSubscription().catch(() => null);
  const endpoint = present?.endpoint ?? memory?.subscription?.endpoint;
  const signal = AbortSignal.timeout(REMOVAL_LIMIT);
  const removal = async () => {
    await registering;
    if (api && endpoint) await remove(api, endpoint, signal);
  };
  const [unsubscribed, removed] = await Promise.allSettled([
    Promise.race([present?.unsubscribe() ?? true, rejected(signal)]),
    Promise.race([removal(), rejected(signal)]),
  ]);
  await remember({ subscription: null, id: null });
  return { unsubscribed: unsubscribed.status === 'fulfilled', removed: removed.status === 'fulfilled' };
}

/**
 * @param {Api} api
 * @param {string} endpoint
 * @param {AbortSignal} signal
 */
async function remove(api, endpoint, signal) {
  const digest = hex(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(endpoint)));
  const { data } = await api.json('GET', 'v1/me/push-subscriptions', { signal });
  const own = data.find((/** @type {{endpoint_sha256: string}} */ one) => one.endpoint_sha256 === digest);
  if (own) await api.json('DELETE', `v1/me/push-subscriptions/${own.id}`, { signal });
}

/**
 * @param {AbortSignal} signal
 * @returns {Promise<never>}
 */
function rejected(signal) {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
}

/**
 * @param {PushSubscription} subscribed
 * @param {string} key
 */
function isOf(subscribed, key) {
  const own = subscribed.options.applicationServerKey;
  return own !== null && hex(own) === hex(bytes(key).buffer);
}

/** @param {string} base64url */
function bytes(base64url) {
  const base64 = base64url.replaceAll('-', '+').replaceAll('_', '/');
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** @param {ArrayBuffer} buffer */
function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
