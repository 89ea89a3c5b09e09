// The user's session in this browser. The token is stored, so that a click on a notification opens the portal without a
// sign-in.

import { Api } from './api.js';

const TOKEN = 'flametree.token';

/** The token of the signed-in user; null if no user is signed in. */
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
    // In a browser without storage, the user signs in on each page load.
  }
}

export function forget() {
  try {
    localStorage.removeItem(TOKEN);
  } catch {
    // In a browser without storage, there is no token to remove.
  }
}

/** Reports when the user signs in or out in another tab. */
export function onOtherTab(changed) {
  addEventListener('storage', (event) => {
    if (event.key === TOKEN || event.key === null) changed();
  });
}

/** The owner of a token. */
export class Session {
  /** @param {string} token @param {object} me response of `GET /v1/me` */
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

  /** Only users have browsers; API tokens do not. */
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
