// Elements above a page: confirmations that disappear, questions and windows.

import { fill, h, icon } from './dom.js';

const TOAST_MS = 6000;

/** Confirms an action. Screen readers announce the confirmation, because the live region always exists. */
export function toast(text) {
  const place = document.getElementById('toasts');
  const shown = h('div', { class: 'toast' }, icon('check'), h('span', {}, text));
  fill(place, shown);
  setTimeout(() => shown.remove(), TOAST_MS);
}

const open = new Set();

/** Shows a window above the page until the user closes it or leaves the page. */
export function openWindow(dialog) {
  open.add(dialog);
  dialog.addEventListener('close', () => {
    open.delete(dialog);
    dialog.remove();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** Closes the windows of the page that the user leaves. */
export function closeWindows() {
  for (const dialog of open) dialog.close();
}

/**
 * Asks a question and returns whether the user agreed. Esc and the first button both decline.
 * @param {{title: string, text: string, no: string, yes: string}} words
 */
export function ask({ title, text, no, yes }) {
  return new Promise((answered) => {
    const dialog = h(
      'dialog',
      { class: 'narrow', 'aria-labelledby': 'question', 'aria-describedby': 'question-text' },
      h(
        'form',
        { method: 'dialog' },
        h('div', { class: 'window-head' }, h('h2', { id: 'question' }, title)),
        h('div', { class: 'window-body' }, h('p', { id: 'question-text' }, text)),
        h(
          'div',
          { class: 'window-foot' },
          h('button', { class: 'button', value: 'no' }, no),
          h('button', { class: 'button primary', value: 'yes' }, yes),
        ),
      ),
    );
    dialog.addEventListener('close', () => answered(dialog.returnValue === 'yes'));
    openWindow(dialog);
  });
}

/** Placeholders while a page is loading. */
export function ghosts(rows = 3) {
  const ghost = (width) => {
    const bar = h('span', { class: 'ghost' });
    bar.style.setProperty('--ghost', width);
    return bar;
  };
  const row = (_, number) => h('li', { class: 'row' }, h('div', {}, ghost(`${58 - 9 * (number % 3)}%`), ghost('32%')));
  return h(
    'div',
    { 'aria-busy': 'true' },
    h('span', { class: 'visually-hidden' }, 'Loading…'),
    h('ul', { class: 'row-list', 'aria-hidden': 'true' }, Array.from({ length: rows }, row)),
  );
}

/** Replaces an empty list with an explanation and a suggestion for the next step. */
export function emptyState(symbol, title, text, ...actions) {
  return h(
    'div',
    { class: 'state' },
    h('div', { class: 'emblem' }, icon(symbol, 24)),
    h('h2', {}, title),
    h('p', { class: 'muted' }, text),
    actions,
  );
}

/** Replaces content that could not be loaded. */
export function errorState(words, retry) {
  return h(
    'div',
    { class: 'state error-state', role: 'alert' },
    h('div', { class: 'emblem' }, icon('alert', 24)),
    h('h2', {}, 'This could not be loaded'),
    h('p', { class: 'muted' }, words),
    retry && h('button', { class: 'button', type: 'button', onclick: retry }, 'Try again'),
  );
}
