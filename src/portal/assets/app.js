// The portal's entry point: signs in, builds the frame and shows pages.

import { Problem, wordsOf } from './api.js';
import { fill, h } from './dom.js';
import { Frame } from './frame.js';
import { Notifying } from './notifying.js';
import { agentPage } from './pages/agent.js';
import { agentsPage } from './pages/agents.js';
import { humanAgentsPage } from './pages/human-agents.js';
import { noPage, nothingToDoPage } from './pages/other.js';
import { profilePage } from './pages/profile.js';
import { sessionPage } from './pages/session.js';
import { signInPage } from './pages/sign-in.js';
import { Router, read } from './router.js';
import { Session, forget, onOtherTab, store, storedToken } from './session.js';
import { ask, closeWindows, errorState } from './windows.js';

/**
 * Arguments of a page.
 * @typedef {object} Portal
 * @property {Session} session
 * @property {import("./api.js").Api} api
 * @property {Router} router
 * @property {Notifying} notifying
 * @property {() => Promise<void>} signOut
 */

/**
 * A page.
 * @typedef {object} Page
 * @property {string} title
 * @property {HTMLElement} element with an `h1`
 * @property {() => void} [stop] called when the user leaves the page
 * @property {() => boolean} [isUnsaved]
 */

const place = document.getElementById('portal');
const UNSAVED = {
  title: 'Leave without saving?',
  text: 'This agent has unsaved changes. If you leave now, they are lost.',
  no: 'Stay on this page',
  yes: 'Leave without saving',
};

/** Shows the sign-in page. After signing in, the user sees the requested address. */
function signedOut(reason = '') {
  document.title = 'Sign in · Flametree';
  fill(place, signInPage({ reason, signIn: async (token) => signedIn(await open(token)) }).element);
}

/** @throws {Problem} with a message for the user */
async function open(token) {
  const session = await Session.open(token, () => ended());
  if (session.me.tenant_id === null) {
    throw new Problem(403, { detail: 'This token is valid for all tenants. Sign in with a token of one tenant.' });
  }
  store(token);
  return session;
}

let running = null;

/** The service no longer accepts the token. */
function ended() {
  if (!running) return;
  stop();
  forget();
  signedOut('You were signed out, because the token has expired or was revoked. Sign in again.');
}

function stop() {
  running?.page?.stop?.();
  running?.notifying.stop();
  closeWindows();
  running = null;
}

function signedIn(session) {
  const notifying = new Notifying(session);
  const portal = { session, api: session.api, notifying, signOut, router: null };
  const frame = new Frame(portal);
  running = { token: session.token, notifying, page: null };
  fill(place, frame.element);
  router.show = (address) => {
    if (running?.notifying !== notifying) return;
    running.page?.stop?.();
    closeWindows();
    running.page = choose(portal, address);
    router.guard(
      () => running?.page?.isUnsaved?.() ?? false,
      () => ask(UNSAVED),
    );
    frame.show(running.page, address);
  };
  portal.router = router;
  router.show(location.href);
  notifying.start(
    (count) => frame.showCount(count),
    (address) => router.go(address),
  );

  async function signOut() {
    if (!(await router.go('/portal/'))) return;
    stop();
    // The token is removed first, so that a user who closes the page during the next steps is signed out, too.
    forget();
    fill(place, h('p', { class: 'state muted', role: 'status' }, 'Signing out…'));
    await notifying.signOut();
    signedOut();
  }
}

/** @returns {Page} */
function choose(portal, address) {
  const { page, id } = read(address);
  const { session } = portal;
  if (page === 'session' && id) return sessionPage(portal, id);
  if (page === 'agent' && id && session.may('read_configs')) return agentPage(portal, id);
  if (page === 'agents' && session.may('read_configs')) return agentsPage(portal);
  if (page === 'human-agents' && session.may('use_workspace')) return humanAgentsPage(portal);
  if (page === 'profile') return profilePage(portal);
  if (page !== '') return noPage();
  if (session.may('use_workspace')) return humanAgentsPage(portal);
  if (session.may('read_configs')) return agentsPage(portal);
  return nothingToDoPage(portal);
}

const router = new Router();

/** Starts with the stored token, if there is one. */
async function begin() {
  const token = storedToken();
  if (!token) return signedOut();
  try {
    signedIn(await Session.open(token, () => ended()));
  } catch (error) {
    if (error instanceof Problem && error.status === 401) {
      forget();
      signedOut('Your token has expired or was revoked. Sign in again.');
    } else {
      fill(place, h('main', {}, errorState(wordsOf(error), begin)));
    }
  }
}

onOtherTab(() => {
  // In another tab, the user signed out or another user signed in, so this page must not stay open.
  if (storedToken() !== running?.token) location.reload();
});

begin();
