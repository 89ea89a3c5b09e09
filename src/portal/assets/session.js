// Who is signed in, in this browser: the token is kept so that a notification's click opens the portal and not a form.

import { Api } from './api.js';

const TOKEN = 'flametree.token';

/** The token of the person who is signed in; null: nobody is. */
export function storedToken() {
  try {
    return localStorage.getItem(TOKEN);
  } catch {
    return null;
  }
}

export function store(token) {
  try {
    localStorage.setItem(TOKEN, token);
  } catch {
    // A browser that keeps nothing: the person signs in again with each load.
  }
}

export function forget() {
  try {
    localStorage.removeItem(TOKEN);
  } catch {
    // Nothing was kept.
  }
}

/** Calls back when somebody signs in or out in another tab. */
export function onOtherTab(changed) {
  addEventListener('storage', (event) => {
    if (event.key === TOKEN || event.key === null) changed();
  });
}

/** Who a token belongs to. */
export class Session {
  /** @param {string} token @param {object} me as `GET /v1/me` tells */
  constructor(token, me, onRefused) {
    this.token = token;
    this.me = me;
    this.api = new Api(token, onRefused);
  }

  /** @throws {import("./api.js").Problem} */
  static async open(token, onRefused) {
    const me = await new Api(token).get('/v1/me');
    return new Session(token, me, onRefused);
  }

  may(permission) {
    return this.me.permissions.includes(permission);
  }

  /** Browsers are a person's: an API token is nobody. */
  get isPerson() {
    return this.me.user_id !== null;
  }

  get name() {
    return this.me.user_id ?? 'API token';
  }

  get roleName() {
    return ROLES[this.me.role] ?? this.me.role;
  }
}

const ROLES = { admin: 'Admin', agent_editor: 'Agent editor', operator: 'Operator', viewer: 'Viewer', service: 'Service' };
