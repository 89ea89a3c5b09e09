// The window of one delivery: its request and its response.

import { wordsOf } from '../api.js';
import { fill, h, icon } from '../dom.js';
import { milliseconds, time } from '../time.js';
import { errorState, ghosts, openWindow } from '../windows.js';
import { outcome } from './words.js';

/** @param {import("../app.js").Portal} portal */
export function openDeliveryWindow({ api }, id, eventName) {
  const body = h('div', { class: 'window-body' }, ghosts(2));
  const dialog = h(
    'dialog',
    { class: 'wide', 'aria-labelledby': 'delivery-title' },
    h(
      'div',
      { class: 'window-head' },
      h('h2', { id: 'delivery-title' }, eventName),
      h(
        'button',
        { class: 'button quiet icon', type: 'button', 'aria-label': 'Close', onclick: () => dialog.close() },
        icon('close'),
      ),
    ),
    body,
  );
  const load = async () => {
    try {
      fill(body, shown(await api.get(`/v1/deliveries/${encodeURIComponent(id)}`)));
    } catch (error) {
      fill(body, errorState(wordsOf(error), load));
    }
  };
  openWindow(dialog);
  load();
}

function shown(delivery) {
  const { name, tone } = outcome(delivery.outcome);
  const { request, response } = delivery;
  return [
    h(
      'div',
      { class: 'actions' },
      h('span', { class: `chip dot ${tone}` }, name),
      delivery.http_status !== null && h('span', {}, 'Status ', h('strong', {}, delivery.http_status)),
      h(
        'span',
        { class: 'muted' },
        milliseconds(delivery.duration_ms),
        ', ',
        time(delivery.finished_at ?? delivery.accepted_at),
      ),
    ),
    delivery.note && h('p', {}, delivery.note),
    h(
      'dl',
      { class: 'pairs small' },
      pair('Delivery', delivery.id),
      pair('Event', delivery.event_id),
      request?.url && pair('URL', request.url),
      request?.header_names.length > 0 && pair('Headers', request.header_names.join(', ')),
      request && !request.settings_unchanged && pair('Settings', 'Changed since it was sent'),
    ),
    box('Sent request', request ? (request.body ?? 'Your role cannot see messages.') : 'The endpoint was deleted.'),
    response && box('Response of the endpoint', answer(response)),
  ];
}

function answer({ body, truncated }) {
  return body === null ? 'No body, or your role cannot see it.' : body + (truncated ? '…' : '');
}

function pair(name, value) {
  return [h('dt', { class: 'muted' }, name), h('dd', { class: 'code' }, value)];
}

function box(name, text) {
  return h(
    'div',
    { class: 'field' },
    h('h3', {}, name),
    h('pre', { class: 'code-box', tabindex: '0', 'aria-label': name }, text),
  );
}
