// Four figures about an agent's deliveries of the last day.

import { fill, h } from '../dom.js';
import { milliseconds } from '../time.js';

const EVERY_MS = 15_000;

/** @param {import("../app.js").Portal} portal */
export function figuresCard({ api, session }, id) {
  const list = h('dl', { class: 'figures' });
  const element = h('section', { class: 'card', 'aria-label': 'The last 24 hours' }, list);
  element.hidden = !session.may('read_deliveries');
  show(null);

  function show(stats) {
    const delivered = stats?.outcomes.delivered;
    const failed = stats && stats.total - delivered;
    fill(
      list,
      figure('Delivered in 24 h', stats ? delivered.toLocaleString() : '–'),
      figure('Not delivered', stats ? failed.toLocaleString() : '–', failed > 0 ? 'bad-figure' : ''),
      figure('Median time', stats ? milliseconds(stats.duration_ms.p50) : '–'),
      figure('95th percentile', stats ? milliseconds(stats.duration_ms.p95) : '–'),
    );
  }
  async function refresh() {
    if (element.hidden || document.hidden) return;
    try {
      show(await api.get(`/v1/agents/${encodeURIComponent(id)}/stats?channel=webhook`));
    } catch {
      // After an error, the last figures stay visible.
    }
  }
  refresh();
  const timer = setInterval(refresh, EVERY_MS);
  return { element, refresh, stop: () => clearInterval(timer) };
}

function figure(name, value, kind = '') {
  return h('div', {}, h('dt', { class: 'small muted' }, name), h('dd', { class: kind }, value));
}
