// What each page begins with: the way back, where one is, and what can be done there.

import { h, icon } from '../dom.js';

/**
 * @typedef {object} Beside what stands around the title
 * @property {{name: string, href: string} | false} [back] the page above this one
 * @property {Node} [state] of what the page shows, beside the title
 * @property {Node} [about] below the title
 * @property {Node | (Node | false | undefined)[]} [actions] at the end
 */

/** @param {string} title @param {Beside} [beside] */
export function pageHead(title, { back, state, about, actions } = {}) {
  return h(
    'header',
    { class: 'page-head' },
    h(
      'div',
      { class: 'words' },
      back && h('a', { class: 'back', href: back.href }, icon('back', 16), back.name),
      h('div', { class: 'title-line' }, h('h1', { tabindex: '-1' }, title), state),
      about,
    ),
    actions && h('div', { class: 'actions' }, actions),
  );
}
