// Pages for addresses and roles without content.

import { h } from '../dom.js';
import { emptyState } from '../windows.js';

/** For an unknown address, or one that this role may not open. */
export function noPage() {
  const link = h('a', { class: 'button', href: '/portal/' }, 'Go to the portal');
  return page(
    'Nothing here',
    emptyState('alert', 'Nothing here', 'There is no such page, or your role does not include it.', link),
  );
}

/** For a role without pages, such as a service's. */
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
