// The header of each page: title, back link and actions.

import { h, icon } from '../dom.js';

/**
 * @typedef {object} Beside elements around the title
 * @property {{name: string, href: string} | false} [back] link to the parent page
 * @property {Node} [state] state of the shown session or agent, next to the title
 * @property {Node} [about] text below the title
 * @property {Node | (Node | false | undefined)[]} [actions] buttons at the end of the header
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
