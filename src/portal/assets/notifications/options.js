// What a page may choose when it makes a client, and what holds where it chooses nothing.

/**
 * @typedef {object} Options
 * @property {() => string | Promise<string>} token the bearer token of who is signed in, asked for before each request
 * @property {string} [api] where the API is, with a slash at its end; default: the parent of this module's folder
 * @property {string} [worker] where the service worker is; default: `sw.js` beside this module
 * @property {string} [scope] the pages that the service worker is for; default: its own folder
 * @property {string} [sessionPath] where a click on a notification leads, with `{session_id}` in it, on this origin;
 *   default: the reference portal
 * @property {string} [label] what the person's list of browsers calls this one
 * @property {number} [subscribeLimit] how long the browser's push service may take, in ms; default: 15,000
 */

/**
 * The options with what was not chosen.
 * @param {Options} options
 * @param {string} module where the client module is
 */
export function completed(options, module) {
  return {
    api: new URL('..', module).href,
    worker: new URL('./sw.js', module).href,
    scope: undefined,
    sessionPath: null,
    label: browserName(),
    subscribeLimit: 15_000,
    ...options,
  };
}

/** What this browser is called until the person calls it otherwise. */
function browserName() {
  const agent = navigator.userAgent;
  const names = [[/Edg\//, 'Edge'], [/OPR\//, 'Opera'], [/Firefox\//, 'Firefox'], [/Chrome\//, 'Chrome'], [/Safari\//, 'Safari']];
  const systems = [[/Android/, 'Android'], [/iPhone|iPad/, 'iOS'], [/Windows/, 'Windows'], [/Mac OS/, 'macOS'], [/Linux/, 'Linux']];
  const find = (/** @type {any[][]} */ list) => list.find(([pattern]) => pattern.test(agent))?.[1];
  return [find(names) ?? 'Browser', find(systems)].filter(Boolean).join(' on ');
}
