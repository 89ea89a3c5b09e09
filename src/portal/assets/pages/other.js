// Pages for who has come to where there is nothing.

import { h } from '../dom.js';
import { emptyState } from '../windows.js';

/** An address that leads nowhere, or where this role may not go. */
export function noPage() {
  const link = h('a', { class: 'button', href: '/portal/' }, 'To the portal');
  return page(
    'Nothing here',
    emptyState('alert', 'Nothing here', 'There is no such page, or your role does not include it.', link),
  );
}

/** A role that has no page, such as a service's. */
export function nothingToDoPage(portal) {
  const button = h('button', { class: 'button', type: 'button', onclick: portal.signOut }, 'Sign out');
  return page(
    'Signed in',
    emptyState(
      'profile',
      'Nothing to see with this token',
      'A token with the role Service posts events and does nothing else. Sign in as a person.',
      button,
    ),
  );
}

function page(title, content) {
  return {
    title,
    element: h(
      'div',
      { class: 'page' },
      h('h1', { class: 'visually-hidden', tabindex: '-1' }, title),
      h('div', { class: 'card' }, content),
    ),
  };
}
