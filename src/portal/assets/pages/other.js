// Pages for unknown addresses, and for roles without pages.

import { h } from '../dom.js';
import { emptyState } from '../windows.js';

/** Shown for an unknown address, or for a page that this role may not open. */
export function noPage() {
  const link = h('a', { class: 'button', href: '/portal/' }, 'Go to the portal');
  return page(
    'Nothing here',
    emptyState('alert', 'Nothing here', 'There is no such page, or your role does not include it.', link),
  );
}

/** Shown for a role without pages, such as a service's role. */
export function nothingToDoPage(portal) {
  const button = h('button', { class: 'button', type: 'button', onclick: portal.signOut }, 'Sign out');
  return page(
    'Signed in',
    emptyState(
      'profile',
      'This token has no pages',
      'A token with the role Service can only post events. Sign in as a user.',
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
