// The API client of the client module. It adds the user's token, returns JSON, and throws errors with the API's messages.

import { NotificationsError } from './state.js';

/** An error response, with the fields of its problem document (RFC 9457). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{code?: string, title?: string, detail?: string, errors?: {message: string}[]}} problem
   */
  constructor(status, problem) {
    super(problem.errors?.[0]?.message ?? problem.detail ?? problem.title ?? `The server responded with status ${status}.`);
    this.name = 'ApiError';
    this.status = status;
    this.code = problem.code ?? '';
  }
}

/** Calls the API as the signed-in user. */
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

  /** Returns the current bearer token. */
  async token() {
    return await this.#token();
  }

  /**
   * Returns the response with any status. After a 401, asks for the token again and repeats the request once.
   * @param {string} method
   * @param {string} path relative to the base URL, without a leading slash
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
   * Returns the JSON of a successful response. Throws an `ApiError`, or a `NotificationsError` if there is no response.
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
