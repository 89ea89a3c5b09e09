// Shows relative times, with the exact time on hover, and updates them while the page is open.

import { h } from './dom.js';

/** @type {Array<[number, Intl.RelativeTimeFormatUnit, number]>} */
const STEPS = [
  [60, 'second', 1],
  [3600, 'minute', 60],
  [86400, 'hour', 3600],
  [Infinity, 'day', 86400],
];
const RELATIVE = new Intl.RelativeTimeFormat('en', { numeric: 'always', style: 'long' });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });

export function relative(at, now = Date.now()) {
  const seconds = Math.round((at - now) / 1000);
  if (Math.abs(seconds) < 5) return 'just now';
  const [, unit, length] = STEPS.find(([limit]) => Math.abs(seconds) < limit);
  return RELATIVE.format(Math.trunc(seconds / length), unit);
}

/** @param {string} moment RFC 3339 */
export function time(moment) {
  const at = new Date(moment);
  return h('time', { datetime: moment, title: EXACT.format(at), 'data-relative': '' }, relative(at.getTime()));
}

setInterval(() => {
  for (const element of /** @type {NodeListOf<HTMLTimeElement>} */ (document.querySelectorAll('time[data-relative]'))) {
    const words = relative(new Date(element.dateTime).getTime());
    if (element.textContent !== words) element.textContent = words;
  }
}, 1000);

/** A duration with a suitable unit. */
export function milliseconds(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms >= 100 ? ms.toFixed(0) : ms.toFixed(1)} ms`;
}
