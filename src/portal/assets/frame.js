// The frame around the pages: the menu with its badge, and the content area.

import { brandMark, fill, h, icon } from './dom.js';
import { PAGES, read } from './router.js';

export class Frame {
  #content = h('main', { class: 'content', id: 'content', tabindex: '-1' });
  #badge = h('span', { class: 'badge', hidden: true });
  #items;
  #shown = null;

  /** @param {import("./app.js").Portal} portal */
  constructor(portal) {
    const { session } = portal;
    this.#items = [
      session.may('use_workspace') && this.#item('human-agents', 'Human Agents', 'people', this.#badge),
      session.may('read_configs') && this.#item('agents', 'Agents', 'agents'),
      this.#item('profile', 'Profile', 'profile'),
    ].filter(Boolean);
    this.element = h(
      'div',
      {},
      h('a', { class: 'skip', href: '#content', onclick: (event) => this.#skip(event) }, 'Skip to content'),
      h(
        'div',
        { class: 'frame' },
        h(
          'header',
          { class: 'menu' },
          h('a', { class: 'brand', href: '/portal/' }, brandMark(28), 'Flametree'),
          h(
            'nav',
            { 'aria-label': 'Portal' },
            h(
              'ul',
              {},
              this.#items.map(({ link }) => h('li', {}, link)),
            ),
          ),
          h(
            'div',
            { class: 'person' },
            h('span', { class: 'initial', 'aria-hidden': 'true' }, session.name.charAt(0)),
            h(
              'span',
              { class: 'who' },
              h('span', { class: 'clip' }, session.name),
              h('br'),
              h('span', { class: 'small muted' }, session.roleName),
            ),
            h(
              'button',
              {
                class: 'button quiet icon',
                type: 'button',
                title: 'Sign out',
                'aria-label': 'Sign out',
                onclick: portal.signOut,
              },
              icon('leave'),
            ),
          ),
        ),
        this.#content,
      ),
    );
  }

  /** Moves the focus without navigating, because the router treats every address as a page. */
  #skip(event) {
    event.preventDefault();
    this.#content.focus();
  }

  #item(page, name, symbol, badge) {
    const address = { 'human-agents': PAGES.humanAgents, agents: PAGES.agents, profile: PAGES.profile }[page];
    const link = h('a', { class: 'item', href: address }, icon(symbol), h('span', { class: 'name' }, name), badge);
    return { page, link };
  }

  /** @param {import("./app.js").Page} page */
  show(page, address) {
    document.title = `${page.title} · Flametree`;
    fill(this.#content, page.element);
    const named = read(address).page;
    const parent = { agent: 'agents', session: 'human-agents' }[named] ?? named;
    // An address that names no page shows the first page of the role.
    const current = parent || this.#items.find(({ page: name }) => name !== 'profile')?.page;
    for (const { page: name, link } of this.#items) {
      if (name === current) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    scrollTo(0, 0);
    // Moves a screen reader to the new page's heading. For the first page, the browser does this.
    if (this.#shown) this.#content.querySelector('h1')?.focus();
    this.#shown = page;
  }

  /** Shows the number of active conversations; hides the badge at 0. */
  showCount(count) {
    this.#badge.hidden = count === 0;
    const words = count === 1 ? '1 active conversation' : `${count} active conversations`;
    fill(
      this.#badge,
      h('span', { 'aria-hidden': 'true' }, count > 999 ? '999+' : count),
      h('span', { class: 'visually-hidden' }, ` ${words}`),
    );
  }
}
