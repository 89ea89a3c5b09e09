// The `Advanced` card: a summary of the push config, a button that opens its window, and the endpoint test.

import { fill, h, icon } from '../dom.js';
import { endpointTest } from './endpoint-test.js';
import { draftOf, freshDraft, isUnset } from './push-config-draft.js';
import { openPushConfigWindow } from './push-config-window.js';
import { WEBHOOK_EVENTS } from './words.js';

const LABEL = 'Set push notification configuration';

/**
 * @param {object} options
 * @param {import("../app.js").Portal} options.portal
 * @param {string} options.path API path of the agent
 * @param {boolean} options.isReadOnly
 * @param {(draft: object) => void} options.take receives the draft that the user saves in the window
 */
export function advancedCard({ portal, path, isReadOnly, take }) {
  let now = { config: null, draft: null, isUnsaved: false };
  const about = h('div', { class: 'small muted' });
  const chip = h('span', {});
  let dialog = null;
  const open = (faults) => {
    dialog = openPushConfigWindow({
      draft: now.draft ?? (isUnset(now.config) ? freshDraft() : draftOf(now.config)),
      config: now.config,
      faults,
      isReadOnly,
      save: take,
    });
  };
  const button = h(
    'button',
    { class: 'button icon', type: 'button', title: LABEL, 'aria-label': LABEL, onclick: () => open() },
    icon('plus'),
  );
  const test = portal.session.may('test_endpoint') ? endpointTest(portal.api, path, () => now) : null;
  const element = h(
    'section',
    { class: 'card', 'aria-labelledby': 'advanced' },
    h('div', { class: 'card-head' }, h('h2', { id: 'advanced' }, 'Advanced')),
    h('div', { class: 'card-row' }, h('div', { class: 'words' }, h('div', { class: 'title' }, LABEL), about), chip, button),
    test?.element,
  );
  return {
    element,
    open,
    isOpenWithChanges: () => dialog?.isChanged() ?? false,
    show(next) {
      now = next;
      const { config, draft, isUnsaved } = now;
      const shown = draft ?? (isUnset(config) ? null : config);
      fill(about, shown ? summary(shown) : "Send the events of this agent's sessions to your HTTP endpoint.");
      fill(chip, state(shown, config, isUnsaved));
      test?.show(Boolean(shown?.url));
    },
  };
}

function summary({ url, headers, events }) {
  const parts = [
    count(events.length, 'event', 'events'),
    headers.length > 0 && count(headers.length, 'header', 'headers'),
    headers.some((header) => header.secret) && 'secrets set',
  ].filter(Boolean);
  return [
    h('span', { class: 'code' }, url || 'No URL yet'),
    h('br'),
    h('span', { title: events.map((event) => WEBHOOK_EVENTS[event]).join(', ') }, parts.join(' · ')),
  ];
}

function state(shown, config, isUnsaved) {
  if (isUnsaved)
    return h('span', { class: 'chip wait dot' }, shown?.enabled ? 'Enabled, not saved yet' : 'Paused, not saved yet');
  if (!shown) return h('span', { class: 'chip' }, 'Not set');
  if (config.disabled_reason === 'gone') {
    return h('span', { class: 'chip bad dot', title: 'The endpoint responded with 410 Gone' }, 'Disabled: endpoint gone');
  }
  return shown.enabled ? h('span', { class: 'chip good dot' }, 'Enabled') : h('span', { class: 'chip dot' }, 'Paused');
}

function count(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}
