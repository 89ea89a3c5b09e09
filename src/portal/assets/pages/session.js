// One session: where it stands, and what was delivered of it. A notification's click leads here.

import { wordsOf } from '../api.js';
import { fill, h, icon } from '../dom.js';
import { EVENTS } from './words.js';
import { PAGES } from '../router.js';
import { time } from '../time.js';
import { emptyState, errorState, ghosts } from '../windows.js';

/** Deliveries that are looked at for the session's events. */
const DELIVERIES = 100;

/** @param {import("../app.js").Portal} portal */
export function sessionPage({ api, session, notifying }, id) {
  const state = h('div', { class: 'actions', role: 'status' });
  const stop = session.may('use_workspace')
    ? notifying.onWorkspace(({ conversations }) => {
        if (conversations === null) return;
        fill(
          state,
          where(
            conversations.find((one) => one.session_id === id),
            session,
          ),
        );
      })
    : undefined;
  const events = session.may('read_deliveries') ? eventList(api, session, id) : null;
  notifying.sessionOpened(id);
  const element = h(
    'div',
    { class: 'page' },
    h(
      'header',
      { class: 'page-head' },
      h(
        'div',
        { class: 'words' },
        session.may('use_workspace') && h('a', { class: 'back', href: PAGES.humanAgents }, icon('back', 16), 'Human Agents'),
        h('h1', { tabindex: '-1' }, id),
      ),
      state,
    ),
    events?.element ??
      h(
        'section',
        { class: 'card' },
        emptyState(
          'people',
          'Answer in your operator desk',
          'The portal shows where the session stands. Its messages are shown to roles that may read them.',
        ),
      ),
  );
  events?.load();
  return { title: `Session ${id}`, element, stop };
}

function where(conversation, session) {
  if (!conversation) return h('span', { class: 'chip' }, 'Not in the operator workspace');
  const { assignee_id: assignee, since } = conversation;
  const chip =
    assignee === null
      ? h('span', { class: 'chip wait dot' }, 'Waiting')
      : h('span', { class: 'chip good dot' }, assignee === session.me.user_id ? 'With you' : `With ${assignee}`);
  return [h('span', { class: 'small muted' }, time(since)), chip];
}

function eventList(api, session, id) {
  const body = h('div', { class: 'card-body' }, ghosts(3));
  const element = h(
    'section',
    { class: 'card', 'aria-labelledby': 'events' },
    h('div', { class: 'card-head' }, h('h2', { id: 'events' }, 'Events that were delivered')),
    body,
  );
  async function load() {
    try {
      const query = `session_id=${encodeURIComponent(id)}&limit=${DELIVERIES}`;
      const { data } = await api.get(`/v1/deliveries?${query}`);
      const ids = [...new Set(data.map((delivery) => delivery.event_id))];
      const events = await Promise.all(ids.map((event) => api.get(`/v1/events/${encodeURIComponent(event)}`)));
      events.sort((one, other) => Date.parse(one.occurred_at) - Date.parse(other.occurred_at));
      fill(
        body,
        events.length
          ? h(
              'ol',
              { class: 'transcript' },
              events.map((event) => shown(event, session)),
            )
          : emptyState(
              'send',
              'Nothing was delivered of this session',
              "Events that an agent's push config selects, and notifications to people, appear here.",
            ),
      );
    } catch (error) {
      fill(body, errorState(wordsOf(error), load));
    }
  }
  return { element, load };
}

function shown(event, session) {
  const name = EVENTS[event.type] ?? event.type;
  const about = h('div', { class: 'small muted' }, name, ' · ', time(event.occurred_at));
  if (event.text === null) return h('li', { class: 'milestone' }, name, ' · ', time(event.occurred_at));
  const ours = event.type !== 'user_message';
  return h(
    'li',
    { class: ours ? 'bubble ours' : 'bubble', dir: 'auto' },
    about,
    session.may('read_bodies') ? event.text : null,
  );
}
