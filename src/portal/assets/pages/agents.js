// Lists the agents that have a push config, with a form to open any other agent.

import { wordsOf } from '../api.js';
import { field, fill, h } from '../dom.js';
import { pageHead } from './head.js';
import { agentAddress } from '../router.js';
import { time } from '../time.js';
import { emptyState, errorState, ghosts } from '../windows.js';

/** @param {import("../app.js").Portal} portal */
export function agentsPage({ api, router, session }) {
  const list = h('ul', { class: 'row-list' });
  const more = h('button', { class: 'button', type: 'button' }, 'Show more');
  const card = h('section', { class: 'card', 'aria-label': 'Agents with push notifications' }, ghosts(4));
  let cursor = null;

  async function load() {
    try {
      const page = await api.get(`/v1/agents?limit=50${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ''}`);
      cursor = page.next_cursor;
      list.append(...page.data.map((agent) => h('li', {}, row(agent))));
      more.hidden = cursor === null;
      if (list.children.length === 0) fill(card, nothing(session));
      else if (!list.isConnected) fill(card, list, h('div', { class: 'card-row', hidden: cursor === null }, more));
    } catch (error) {
      fill(card, errorState(wordsOf(error), load));
    }
  }
  more.addEventListener('click', load);
  load();

  const element = h(
    'div',
    { class: 'page' },
    pageHead('Agents', {
      about: h('p', { class: 'muted' }, "Send the events of an agent's sessions to your own systems."),
    }),
    session.may('edit_configs') && openAgent(router),
    card,
  );
  return { title: 'Agents', element };
}

/** The platform manages agents. This service knows an agent only after its push config is saved for the first time. */
function openAgent(router) {
  const input = h('input', { class: 'input', name: 'agent', maxlength: 128, autocomplete: 'off', spellcheck: 'false' });
  const agent = field('Open an agent by its ID', input);
  const open = (event) => {
    event.preventDefault();
    const id = input.value.trim();
    if (id) router.go(agentAddress(id));
    else agent.fail('Enter the ID of an agent.');
  };
  return h(
    'form',
    { class: 'open-agent', onsubmit: open },
    agent.element,
    h('button', { class: 'button', type: 'submit' }, 'Open'),
  );
}

function row({ agent_id: id, enabled, disabled_reason: reason, url, events, updated_at: at }) {
  const state = enabled
    ? h('span', { class: 'chip good dot' }, 'Enabled')
    : reason === 'gone'
      ? h('span', { class: 'chip bad dot' }, 'Endpoint gone')
      : h('span', { class: 'chip dot' }, 'Paused');
  const what = url ? `${events.length} ${events.length === 1 ? 'event' : 'events'} to ${url}` : 'No URL yet';
  return h(
    'a',
    { class: 'row', href: agentAddress(id) },
    h('div', {}, h('div', { class: 'title clip' }, id), h('div', { class: 'small muted clip' }, what)),
    state,
    h('span', { class: 'when small muted' }, 'changed ', time(at)),
  );
}

function nothing(session) {
  const next = session.may('edit_configs')
    ? "Enter an agent's ID above to set up its first endpoint."
    : 'An admin or an agent editor can set one up.';
  return emptyState('agents', 'No agent sends push notifications yet', next);
}
