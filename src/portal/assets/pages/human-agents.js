// Human Agents: the conversations that wait for an operator or that an operator handles, updated live.

import { fill, h } from '../dom.js';
import { pageHead } from './head.js';
import { sessionAddress } from '../router.js';
import { time } from '../time.js';
import { emptyState, ghosts } from '../windows.js';

/** @param {import("../app.js").Portal} portal */
export function humanAgentsPage({ notifying, session }) {
  const count = h('p', { class: 'muted', role: 'status' }, 'Loading…');
  const live = h('span', { class: 'chip dot' });
  const list = h('ul', { class: 'row-list' });
  const card = h('section', { class: 'card', 'aria-label': 'Active conversations' }, ghosts(4));
  const rows = new Map();

  /** Updates the list. Existing rows keep their position and focus. */
  function show(conversations) {
    if (conversations.length === 0) {
      rows.clear();
      fill(list);
      fill(
        card,
        emptyState(
          'people',
          'No conversations are waiting',
          'When a session is transferred to a live agent, or assigned to an operator, it appears here at once.',
        ),
      );
      return;
    }
    const kept = new Set(conversations.map((one) => one.session_id));
    for (const [id, { element }] of rows) {
      if (!kept.has(id)) {
        element.remove();
        rows.delete(id);
      }
    }
    conversations.forEach((one, place) => {
      const known = rows.get(one.session_id);
      const state = JSON.stringify(one);
      const element = known?.state === state ? known.element : h('li', {}, row(one, session));
      if (known && known.element !== element) known.element.replaceWith(element);
      if (list.children[place] !== element) list.insertBefore(element, list.children[place] ?? null);
      rows.set(one.session_id, { element, state });
    });
    if (!list.isConnected) fill(card, list);
  }

  let shown = null;
  const stop = notifying.onWorkspace((workspace) => {
    live.textContent = workspace.isConnected ? 'Live' : 'Reconnecting…';
    live.className = `chip dot ${workspace.isConnected ? 'good' : 'wait'}`;
    if (workspace.conversations === null) return;
    count.textContent = words(workspace.count, workspace.conversations.length);
    if (workspace.conversations !== shown) {
      shown = workspace.conversations;
      show(shown);
    }
  });
  const element = h(
    'div',
    { class: 'page' },
    pageHead('Human Agents', { about: count, actions: live }),
    card,
  );
  return { title: 'Human Agents', element, stop };
}

function words(count, listed) {
  if (count === 0) return 'No active conversations';
  if (count > listed) return `${count} active conversations, the latest ${listed} are shown`;
  return count === 1 ? '1 active conversation' : `${count} active conversations`;
}

function row({ session_id: id, agent_id: agent, assignee_id: assignee, since }, session) {
  const isMine = assignee !== null && assignee === session.me.user_id;
  const state =
    assignee === null
      ? h('span', { class: 'chip wait dot' }, 'Waiting')
      : h('span', { class: isMine ? 'chip good dot' : 'chip dot' }, isMine ? 'With you' : `With ${assignee}`);
  return h(
    'a',
    { class: 'row', href: sessionAddress(id) },
    h('div', {}, h('div', { class: 'title clip' }, id), h('div', { class: 'small muted clip' }, agent)),
    state,
    h('span', { class: 'when small muted' }, time(since)),
  );
}
