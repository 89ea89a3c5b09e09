// The API as the module uses it: the reader's own token, answers as JSON, faults as errors with the API's words.

import { NotificationsError } from './state.js';

/** What the API refused, with the fields of its problem document (RFC 9457). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{code?: string, title?: string, detail?: string, errors?: {message: string}[]}} problem
   */
  constructor(status, problem) {
    super(problem.errors?.[0]?.message ?? problem.detail ?? problem.title ?? `The server answered ${status}.`);
    this.name = 'ApiError';
    this.status = status;
    this.code = problem.code ?? '';
  }
}

/** Speaks to the API in the name of who is signed in. */
export class Api {
  #base;
  #token;

  /**
   * @param {string} base
   * @param {() => string | Promise<string>} token
   */
  constructor(base, token) {
    this.#base = base;
    this.#token = token;
  }

  get base() {
    return this.#base;
  }

  /** The bearer token at this moment. */
  async token() {
    return await this.#token();
  }

  /**
   * The answer, whatever its status. A token that the API does not believe is asked for once more: it may have expired.
   * @param {string} method
   * @param {string} path below the base, without a slash at its beginning
   * @param {{body?: unknown, headers?: Record<string, string>, signal?: AbortSignal}} [more]
   */
  async fetch(method, path, { body, headers = {}, signal } = {}) {
    const token = await this.#token();
    const send = (/** @type {string} */ bearer) =>
      fetch(new URL(path, this.#base), {
        method,
        headers: {
          ...headers,
          authorization: `Bearer ${bearer}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        body: body === undefined ? null : JSON.stringify(body),
        signal: signal ?? null,
        cache: 'no-store',
        credentials: 'omit',
      });
    const answer = await send(token);
    if (answer.status !== 401) return answer;
    const newer = await this.#token();
    return newer === token ? answer : await send(newer);
  }

  /**
   * The JSON of a success; otherwise an `ApiError`, or a `NotificationsError` where nobody answered.
   * @param {string} method
   * @param {string} path
   * @param {{body?: unknown, signal?: AbortSignal}} [more]
   * @returns {Promise<any>}
   */
  async json(method, path, more) {
    let answer;
    try {
      answer = await this.fetch(method, path, more);
    } catch (cause) {
      throw new NotificationsError('unreachable', 'The server cannot be reached. Try again in a moment.', cause);
    }
    if (answer.ok) return answer.status === 204 ? null : await answer.json();
    throw new ApiError(answer.status, await answer.json().catch(() => ({})));
  }
}
