// The recent deliveries of an agent, updated live, with outcome, status and time. Each row has a replay button.

import { idempotencyKey, wordsOf } from '../api.js';
import { fill, h, icon } from '../dom.js';
import { sessionAddress } from '../router.js';
import { milliseconds, time } from '../time.js';
import { emptyState, errorState, ghosts } from '../windows.js';
import { openDeliveryWindow } from './delivery-window.js';
import { EVENTS, outcome } from './words.js';

const EVERY_MS = 2_000;
const ROWS = 20;

/**
 * @param {import("../app.js").Portal} portal
 * @param {string} id agent id
 * @param {() => void} changed called after new deliveries
 */
export function deliveriesCard(portal, id, changed) {
  const card = new DeliveriesCard(portal, id, changed);
  card.start();
  return card;
}

class DeliveriesCard {
  #portal;
  #path;
  #changed;
  #timer;
  #rows = new Map();
  #held = null;
  #isReading = false;
  #live = h('span', { class: 'chip good dot' }, 'Live');
  #news = h('button', { class: 'button short', type: 'button', hidden: true });
  #body = h('tbody', {});
  #place = h('div', {}, ghosts(4));

  constructor(portal, id, changed) {
    this.#portal = portal;
    this.#path = `/v1/deliveries?agent_id=${encodeURIComponent(id)}&channel=webhook&limit=${ROWS}`;
    this.#changed = changed;
    this.#news.addEventListener('click', () => this.#show(this.#held));
    this.element = h(
      'section',
      { class: 'card', 'aria-labelledby': 'deliveries' },
      h(
        'div',
        { class: 'card-head' },
        h('h2', { id: 'deliveries' }, 'Recent deliveries'),
        h('div', { class: 'actions' }, this.#news, this.#live),
      ),
      this.#place,
    );
    // New rows are not inserted while the user points at the list or focuses it, so that no row moves.
    this.#body.addEventListener('pointerleave', () => this.#held && !this.#isInUse && this.#show(this.#held));
    this.#body.addEventListener('focusout', () => setTimeout(() => this.#held && !this.#isInUse && this.#show(this.#held)));
  }

  start() {
    this.#read();
    this.#timer = setInterval(() => document.hidden || this.#read(), EVERY_MS);
    this.stop = () => clearInterval(this.#timer);
  }

  get #isInUse() {
    return this.#body.matches(':hover') || this.#body.contains(document.activeElement);
  }

  async #read() {
    if (this.#isReading) return;
    this.#isReading = true;
    try {
      const { data } = await this.#portal.api.get(this.#path);
      this.#is('Live', 'good');
      this.#take(data);
    } catch (error) {
      this.#is('Reconnecting…', 'wait');
      if (!this.#body.isConnected)
        fill(
          this.#place,
          errorState(wordsOf(error), () => this.#read()),
        );
    } finally {
      this.#isReading = false;
    }
  }

  #is(words, tone) {
    this.#live.textContent = words;
    this.#live.className = `chip dot ${tone}`;
  }

  #take(deliveries) {
    const fresh = deliveries.filter((delivery) => !this.#rows.has(delivery.id));
    if (fresh.length === 0 && this.#place.querySelector('.ghost') === null && this.#rows.size > 0) return;
    if (this.#rows.size > 0 && this.#isInUse) {
      this.#held = deliveries;
      this.#news.textContent = `Show ${fresh.length} new`;
      this.#news.hidden = false;
      return;
    }
    this.#show(deliveries);
  }

  #show(deliveries) {
    this.#held = null;
    this.#news.hidden = true;
    const isFirst = this.#rows.size === 0;
    if (deliveries.length === 0) {
      fill(
        this.#place,
        emptyState(
          'send',
          'No deliveries yet',
          'Set and enable a push notification configuration. Each event that it selects appears here within a moment.',
        ),
      );
      return;
    }
    const rows = deliveries.map((delivery) => {
      const known = this.#rows.get(delivery.id);
      return [delivery.id, known ?? this.#row(delivery, !isFirst)];
    });
    this.#rows = new Map(rows);
    fill(
      this.#body,
      rows.map(([, row]) => row),
    );
    if (!this.#body.isConnected) fill(this.#place, this.#table());
    if (!isFirst) this.#changed();
  }

  #table() {
    const head = ['Event', 'Session', 'Outcome', 'Status', 'Time', 'When', ''].map((name) =>
      h(
        'th',
        { scope: 'col', class: name === 'Status' || name === 'Time' ? 'number' : '' },
        name || h('span', { class: 'visually-hidden' }, 'Actions'),
      ),
    );
    return h('table', { class: 'deliveries' }, h('thead', {}, h('tr', {}, head)), this.#body);
  }

  #row(delivery, isNew) {
    const { id, event_type: event, session_id: session, outcome: code, http_status: status, duration_ms: took } = delivery;
    const { name, tone } = outcome(code);
    const eventName = EVENTS[event] ?? 'Event';
    const open = h('button', { class: 'as-link', type: 'button', title: 'Show request and response' }, eventName);
    open.addEventListener('click', () => openDeliveryWindow(this.#portal, id, eventName));
    const cell = (label, kind, ...content) => h('td', { 'data-label': label, class: kind }, content);
    return h(
      'tr',
      { class: isNew ? 'fresh' : '' },
      cell('Event', '', open),
      cell('Session', '', session ? h('a', { class: 'quiet-link', href: sessionAddress(session) }, session) : '–'),
      cell('Outcome', '', h('span', { class: `chip dot ${tone}` }, name)),
      cell('Status', 'number', status ?? '–'),
      cell('Time', 'number', milliseconds(took)),
      cell('When', 'muted small', time(delivery.finished_at ?? delivery.accepted_at)),
      h(
        'td',
        { class: 'act' },
        this.#portal.session.may('replay') && replayButton(this.#portal.api, id, eventName, () => this.#read()),
      ),
    );
  }
}

/** Replays a delivery with the current settings. The idempotency key prevents a second replay if the response is lost. */
function replayButton(api, id, eventName, done) {
  const key = idempotencyKey();
  const label = h('span', {}, 'Replay');
  const button = h(
    'button',
    { class: 'button quiet short', type: 'button', 'aria-label': `Replay ${eventName}` },
    icon('replay', 16),
    label,
  );
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await api.send('POST', `/v1/deliveries/${encodeURIComponent(id)}/replay`, undefined, {
        headers: { 'Idempotency-Key': key },
      });
      label.textContent = 'Replayed';
      button.setAttribute('aria-label', `${eventName} was replayed`);
      done();
    } catch (error) {
      button.disabled = false;
      label.textContent = 'Replay';
      showWhy(button, wordsOf(error));
    }
  });
  return button;
}

function showWhy(button, words) {
  button.parentElement.querySelector('.error')?.remove();
  button.after(h('p', { class: 'error', role: 'alert' }, words));
}
