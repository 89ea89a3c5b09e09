// The service's HTTP API, called as the signed-in user.

/** An error response, or a request without a response. */
export class Problem extends Error {
  /**
   * @param {number} status 0 means no response
   * @param {{code?: string, title?: string, detail?: string, errors?: Array<{pointer: string, code: string, message: string}>}} document
   * @param {number | null} retryAfter in seconds
   */
  constructor(status, document = {}, retryAfter = null) {
    super(document.detail || document.title || `The service responded with status ${status}.`);
    this.status = status;
    this.code = document.code ?? '';
    this.errors = document.errors ?? [];
    this.retryAfter = retryAfter;
  }

  /** A sentence for the user. */
  get words() {
    if (this.status === 0) return 'The service cannot be reached. Check the connection and try again.';
    if (this.status === 429 && this.retryAfter) return `${sentence(this.message)} Try again in ${this.retryAfter} s.`;
    if (this.code === 'forbidden') return 'Your role does not allow this.';
    if (this.status >= 500) return 'The service cannot do this now. Try again in a moment.';
    return sentence(this.message);
  }
}

/** Adds a capital letter and a full stop, which the service's texts lack. */
export function sentence(text) {
  const trimmed = text.trim();
  const ended = /[.!?…]$/.test(trimmed) ? trimmed : `${trimmed}.`;
  return ended.charAt(0).toUpperCase() + ended.slice(1);
}

/** A new idempotency key, which makes a request safe to repeat. (`randomUUID` requires HTTPS.) */
export function idempotencyKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** @typedef {{headers?: Record<string, string>, signal?: AbortSignal}} RequestOptions */

export class Api {
  #token;

  /** @param {string} token @param {() => void} onRefused called when the service no longer accepts the token */
  constructor(token, onRefused = () => {}) {
    this.#token = token;
    this.onRefused = onRefused;
  }

  /** The response body. */
  async get(path, options = {}) {
    return (await this.send('GET', path, undefined, options)).body;
  }

  /**
   * @returns {Promise<{status: number, body: any, etag: string | null}>}
   * @throws {Problem}
   */
  async send(method, path, body, { headers = {}, signal } = /** @type {RequestOptions} */ ({})) {
    let response;
    try {
      response = await fetch(path, {
        method,
        signal,
        cache: 'no-store',
        credentials: 'omit',
        headers: {
          ...headers,
          Authorization: `Bearer ${this.#token}`,
          ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Problem(0);
    }
    const document = await read(response);
    if (response.ok) return { status: response.status, body: document, etag: response.headers.get('ETag') };
    if (response.status === 401) this.onRefused();
    const seconds = Number.parseInt(response.headers.get('Retry-After') ?? '', 10);
    throw new Problem(response.status, document ?? {}, Number.isNaN(seconds) ? null : seconds);
  }
}

async function read(response) {
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch {
    if (response.ok) throw new Problem(0);
    return null;
  }
}

/** Describes any error to the user. */
export function wordsOf(error) {
  return error instanceof Problem ? error.words : sentence(error?.message || 'Something went wrong');
}
