// The user's browsers: a list in which each browser has a test button and a remove button.

import { wordsOf } from '../api.js';
import { fill, fillError, h, icon } from '../dom.js';
import { time } from '../time.js';
import { emptyState, errorState, ghosts, toast } from '../windows.js';

/** @param {import("../app.js").Portal} portal */
export function browserList({ api, notifying }) {
  const body = h('div', {}, ghosts(1));
  const element = h(
    'section',
    { class: 'card browsers', 'aria-labelledby': 'browsers' },
    h('div', { class: 'card-head' }, h('h2', { id: 'browsers' }, 'Your browsers')),
    body,
  );

  async function load() {
    try {
      const [{ data }, own] = await Promise.all([api.get('/v1/me/push-subscriptions'), ownDigest()]);
      const rows = data.map((one) => h('li', {}, row(one, one.endpoint_sha256 === own)));
      fill(body, rows.length ? h('ul', { class: 'row-list' }, rows) : nothing());
    } catch (error) {
      fill(body, errorState(wordsOf(error), load));
    }
  }

  function row(one, isOwn) {
    const name = one.label ?? one.host;
    const error = h('p', { class: 'error', role: 'alert' });
    const path = `/v1/me/push-subscriptions/${encodeURIComponent(one.id)}`;
    const test = button('send', 'Send test', `Send test to ${name}`, error, async () => {
      const { body: sent } = await api.send('POST', `${path}/test`);
      if (sent.outcome !== 'delivered') throw new Error(sent.note ?? `The push service's response: ${sent.outcome}`);
      toast(`A test notification is on its way to ${name}`);
    });
    const remove = isOwn
      ? button('trash', 'Turn off here', null, error, () => notifying.disable())
      : button('trash', 'Remove', `Remove ${name}`, error, () => api.send('DELETE', path).then(load));
    const seen = one.active ? ['Last seen ', time(one.last_seen_at)] : 'Must be enabled again in that browser';
    return h(
      'div',
      { class: 'row' },
      h(
        'div',
        {},
        h(
          'div',
          { class: 'actions' },
          h('span', { class: 'title' }, name),
          isOwn && h('span', { class: 'chip good' }, 'This browser'),
        ),
        h('div', { class: 'small muted' }, seen),
        error,
      ),
      h('div', { class: 'actions tight' }, one.active && test, remove),
    );
  }

  // The list depends on whether this browser is registered.
  return { element, stop: notifying.onState(load) };
}

function button(symbol, text, label, error, work) {
  const made = h('button', { class: 'button quiet short', type: 'button', 'aria-label': label }, icon(symbol, 16), text);
  made.addEventListener('click', async () => {
    made.disabled = true;
    fillError(error, null);
    try {
      await work();
    } catch (problem) {
      fillError(error, wordsOf(problem));
    } finally {
      made.disabled = false;
    }
  });
  return made;
}

function nothing() {
  return emptyState(
    'laptop',
    'No browser yet',
    'Each browser is set up separately. Enable notifications in every browser, and on every computer, where you want alerts.',
  );
}

/** The hash by which the service identifies this browser; null if this browser has no subscription. */
async function ownDigest() {
  const registration = await navigator.serviceWorker?.getRegistration('/portal/');
  const subscription = await registration?.pushManager?.getSubscription();
  if (!subscription) return null;
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(subscription.endpoint));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
