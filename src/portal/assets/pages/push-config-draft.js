// A push config as a form holds it, beside the one that is saved: what would be sent, and what is wrong with it.
//
// The service judges again, and by all its rules; here is judged what a person can mend before anything is sent.

/**
 * @typedef {object} HeaderDraft
 * @property {string} name
 * @property {boolean} secret
 * @property {string} value empty: for a secret that is set, the stored one stays
 */

/** Names whose values are credentials, whatever is chosen. */
export function isAlwaysSecret(name) {
  return ['authorization', 'cookie'].includes(name.trim().toLowerCase());
}

/** A draft of the saved config. */
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

/** The first draft of an agent that has no config. */
export function freshDraft() {
  return { enabled: true, url: '', headers: [], events: [], timeout_ms: null, signing: true };
}

/** Whether nothing is saved yet. */
export function isUnset(config) {
  return config.url === null && config.signing === undefined;
}

/** What is sent to save the draft. A secret that stays goes without its value. */
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

/** Whether the stored secrets may go to this URL: only to the origin that they were given for. */
export function keepsSecrets(url, config) {
  return url.trim() === '' || (config.url !== null && originOf(url.trim()) === originOf(config.url));
}

/** Whether the config has a secret under this name. */
export function isStoredSecret(name, config) {
  const known = name.trim().toLowerCase();
  return config.headers.some((header) => header.secret && header.value_set && header.name.toLowerCase() === known);
}

/**
 * What is wrong, by the place where it is: as the service's own faults.
 * @returns {Array<{pointer: string, message: string}>}
 */
export function faultsOf(draft, config) {
  const faults = [];
  const fault = (pointer, message) => faults.push({ pointer, message });
  const url = draft.url.trim();
  if (url === '' && draft.enabled) fault('/url', 'Enter the URL of your endpoint, or switch Enabled off.');
  if (url !== '' && !/^https?:\/\/[^/]/i.test(url)) fault('/url', 'Enter a whole URL, such as https://example.com/webhook.');
  else if (url !== '' && originOf(url) === null) fault('/url', 'This is not a valid URL.');
  if (draft.enabled && draft.events.length === 0) fault('/events', 'Select at least one event, or switch Enabled off.');
  const names = new Set();
  draft.headers.forEach(({ name, secret, value }, index) => {
    const known = name.trim().toLowerCase();
    if (known === '') fault(`/headers/${index}/name`, 'Enter a name, or remove the header.');
    else if (names.has(known)) fault(`/headers/${index}/name`, 'Another header has this name already.');
    names.add(known);
    if (value !== '') return;
    if (!secret || !isStoredSecret(name, config)) fault(`/headers/${index}/value`, 'Enter a value.');
    else if (!keepsSecrets(url, config)) fault(`/headers/${index}/value`, REENTRY);
  });
  return faults;
}

export const REENTRY = 'Enter this secret again: the URL has another origin than the one that it was saved for.';

/** The place in the form that shows a fault of the service: the nearest that there is. */
export function placeOf(pointer) {
  const header = /^\/headers\/(\d+)(?:\/(name|value|secret))?/.exec(pointer);
  if (header) return `/headers/${header[1]}/${header[2] === 'value' ? 'value' : 'name'}`;
  for (const place of ['/url', '/events', '/headers']) if (pointer.startsWith(place)) return place;
  return '';
}
