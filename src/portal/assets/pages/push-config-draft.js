// The draft of a push config in the form: compares it with the saved config and finds its faults.
//
// The service validates everything again. This file checks only what a user can correct before saving.

/**
 * @typedef {object} HeaderDraft
 * @property {string} name
 * @property {boolean} secret
 * @property {string} value if the value is empty, a stored secret is kept
 */

/** Names of headers whose values are always secret. */
export function isAlwaysSecret(name) {
  return ['authorization', 'cookie'].includes(name.trim().toLowerCase());
}

/** Creates a draft of the saved config. */
export function draftOf(config) {
  return {
    enabled: config.enabled,
    url: config.url ?? '',
    headers: config.headers.map(({ name, secret, value }) => ({ name, secret, value: value ?? '' })),
    events: [...config.events],
    timeout_ms: config.timeout_ms ?? null,
    signing: config.signing ?? true,
  };
}

/** The initial draft of an agent without a config. */
export function freshDraft() {
  return { enabled: true, url: '', headers: [], events: [], timeout_ms: null, signing: true };
}

/** Whether no config is saved yet. */
export function isUnset(config) {
  return config.url === null && config.signing === undefined;
}

/** The request body that saves the draft. A secret that stays unchanged is sent without a value. */
export function bodyOf(draft) {
  return {
    ...draft,
    url: draft.url.trim() || null,
    headers: draft.headers.map(({ name, secret, value }) =>
      secret && value === '' ? { name: name.trim(), secret } : { name: name.trim(), secret, value },
    ),
  };
}

export function isSame(draft, config) {
  return JSON.stringify(bodyOf(draft)) === JSON.stringify(bodyOf(draftOf(config)));
}

function originOf(url) {
  try {
    return new URL(url).origin;
  } catch {
    return null;
  }
}

/** Whether the stored secrets may be sent to this URL: only if the origin is unchanged. */
export function keepsSecrets(url, config) {
  return url.trim() === '' || (config.url !== null && originOf(url.trim()) === originOf(config.url));
}

/** Whether the saved config has a secret header with this name. */
export function isStoredSecret(name, config) {
  const known = name.trim().toLowerCase();
  return config.headers.some((header) => header.secret && header.value_set && header.name.toLowerCase() === known);
}

/**
 * The faults of the draft. They have JSON pointers and messages, like the faults from the service.
 * @returns {Array<{pointer: string, message: string}>}
 */
export function faultsOf(draft, config) {
  const faults = [];
  const fault = (pointer, message) => faults.push({ pointer, message });
  const url = draft.url.trim();
  if (url === '' && draft.enabled) fault('/url', 'Enter the URL of your endpoint, or switch Enabled off.');
  if (url !== '' && !/^https?:\/\/[^/]/i.test(url)) fault('/url', 'Enter a complete URL, such as https://example.com/webhook.');
  else if (url !== '' && originOf(url) === null) fault('/url', 'This is not a valid URL.');
  if (draft.enabled && draft.events.length === 0) fault('/events', 'Select at least one event, or switch Enabled off.');
  const names = new Set();
  draft.headers.forEach(({ name, secret, value }, index) => {
    const known = name.trim().toLowerCase();
    if (known === '') fault(`/headers/${index}/name`, 'Enter a name, or remove the header.');
    else if (names.has(known)) fault(`/headers/${index}/name`, 'Another header already has this name.');
    names.add(known);
    if (value !== '') return;
    if (!secret || !isStoredSecret(name, config)) fault(`/headers/${index}/value`, 'Enter a value.');
    else if (!keepsSecrets(url, config)) fault(`/headers/${index}/value`, REENTRY);
  });
  return faults;
}

export const REENTRY = 'Enter this secret again: the URL has another origin than before.';

/** The pointer of the field that shows a fault from the service: the nearest field in the form. */
export function placeOf(pointer) {
  const header = /^\/headers\/(\d+)(?:\/(name|value|secret))?/.exec(pointer);
  if (header) return `/headers/${header[1]}/${header[2] === 'value' ? 'value' : 'name'}`;
  for (const place of ['/url', '/events', '/headers']) if (pointer.startsWith(place)) return place;
  return '';
}
