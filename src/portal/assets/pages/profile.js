// The Profile page shows the user, and whether this browser receives notifications.

import { wordsOf } from '../api.js';
import { browserList } from './browsers.js';
import { fillError, freshId, h, icon } from '../dom.js';
import { pageHead } from './head.js';
import { SUBSCRIBED } from '../notifying.js';
import { time } from '../time.js';
import { toast } from '../windows.js';

/** @param {import("../app.js").Portal} portal */
export function profilePage(portal) {
  const { session, notifying } = portal;
  const browsers = notifying.isOffered && notifying.mayChange ? browserList(portal) : null;
  // The section is omitted if the deployment has no browser push.
  const notifications = notifying.isOffered ? notificationsButton(portal) : null;
  const element = h(
    'div',
    { class: 'page' },
    pageHead('Profile', { actions: notifications?.button }),
    notifications?.words,
    h(
      'section',
      { class: 'card', 'aria-label': 'Account' },
      h(
        'dl',
        { class: 'figures names' },
        figure('Name', session.name),
        figure('Role', session.roleName),
        figure('Tenant', session.me.tenant_id),
      ),
      h(
        'div',
        { class: 'card-row' },
        h(
          'p',
          { class: 'words small muted' },
          session.me.valid_until
            ? ['Your sign-in expires ', time(session.me.valid_until), '.']
            : 'Your sign-in does not expire.',
        ),
        h('button', { class: 'button', type: 'button', onclick: portal.signOut }, icon('leave'), 'Sign out'),
      ),
    ),
    browsers?.element,
  );
  const stop = () => {
    notifications?.stop();
    browsers?.stop();
  };
  return { title: 'Profile', element, stop };
}

function figure(name, value) {
  return h('div', {}, h('dt', { class: 'small muted' }, name), h('dd', { class: 'clip', title: value }, value));
}

/** The label and the help text of the button in each state. */
const STATES = {
  not_enabled: {
    label: 'Enable notifications',
    help: 'Get a system notification when a session is assigned to you, or when a customer writes in a session you handle.',
  },
  enabled: {
    label: 'Notifications enabled',
    tone: 'good',
    help:
      "This browser receives notifications. To turn them off for good, use the browser's site settings: the portal " +
      "cannot change the browser's permission for you.",
  },
  blocked: {
    label: 'Notifications blocked',
    tone: 'wait',
    help:
      "This browser blocks notifications for the portal. Allow them in the browser's site settings; the portal cannot " +
      'override this.',
  },
  unsupported: { label: 'Enable notifications' },
};

function notificationsButton({ session, notifying }) {
  const help = h('p', { id: freshId('notifications') });
  const error = h('p', { class: 'error', role: 'alert' });
  const label = h('span', {}, 'Enable notifications');
  const button = h(
    'button',
    { class: 'button', type: 'button', disabled: true, 'aria-describedby': help.id },
    icon('bell'),
    label,
  );
  const words = h('div', { class: 'notice small' }, h('div', { class: 'words' }, help, error));
  const { mayChange } = notifying;
  const show = (state) => {
    const { label: text, help: about, tone } = STATES[state] ?? STATES.not_enabled;
    label.textContent = text;
    button.classList.toggle('primary', state === 'not_enabled' && mayChange);
    button.disabled = state === 'blocked' || state === 'unsupported' || !mayChange;
    help.textContent = about ?? notifying.fault?.message;
    if (!session.isPerson) help.textContent = 'You are signed in with an API token; notifications require a user account.';
    else if (!mayChange) help.textContent = 'Your role does not allow changing this setting.';
    words.className = `notice small ${mayChange && tone ? tone : ''}`;
    fillError(error, mayChange && state === 'not_enabled' && notifying.fault ? notifying.fault.message : null);
  };
  button.addEventListener('click', async () => {
    if (notifying.state === 'enabled' || button.getAttribute('aria-busy') === 'true') return;
    button.setAttribute('aria-busy', 'true');
    fillError(error, null);
    try {
      await notifying.enable();
      toast(SUBSCRIBED);
    } catch (problem) {
      fillError(error, wordsOf(problem));
    } finally {
      button.removeAttribute('aria-busy');
    }
  });
  return { button, words, stop: notifying.onState(show) };
}
