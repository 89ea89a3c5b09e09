// The client's options and their defaults.

/**
 * @typedef {object} Options
 * @property {() => string | Promise<string>} token returns the user's bearer token; called before each request
 * @property {string} [api] the API's base URL with a trailing slash; default: the parent of this module's folder
 * @property {string} [worker] the service worker's URL; default: `sw.js` in this module's folder
 * @property {string} [scope] the pages that the service worker controls; default: the pages in the worker's folder
 * @property {string} [sessionPath] the path on this origin that a click on a notification opens, with `{session_id}`; default:
 * the path of a session in the reference portal
 * @property {string} [label] the name of this browser in the user's list of browsers
 * @property {number} [subscribeLimit] how long to wait for the browser's push service, in ms; default: 15,000
 */

/**
 * Adds the default of each option that is not set.
 * @param {Options} options
 * @param {string} module the client module's URL
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

/** The default name of this browser, from its user agent. */
function browserName() {
  const agent = navigator.userAgent;
  const names = [[/Edg\//, 'Edge'], [/OPR\//, 'Opera'], [/Firefox\//, 'Firefox'], [/Chrome\//, 'Chrome'], [/Safari\//, 'Safari']];
  const systems = [[/Android/, 'Android'], [/iPhone|iPad/, 'iOS'], [/Windows/, 'Windows'], [/Mac OS/, 'macOS'], [/Linux/, 'Linux']];
  const find = (/** @type {any[][]} */ list) => list.find(([pattern]) => pattern.test(agent))?.[1];
  return [find(names) ?? 'Browser', find(systems)].filter(Boolean).join(' on ');
}
