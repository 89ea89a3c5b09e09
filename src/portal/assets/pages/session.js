// One session: its state and its deliveries. Clicks on notifications open this page.

import { wordsOf } from '../api.js';
import { fill, h } from '../dom.js';
import { pageHead } from './head.js';
import { EVENTS } from './words.js';
import { PAGES } from '../router.js';
import { time } from '../time.js';
import { emptyState, errorState, ghosts } from '../windows.js';

/** Number of deliveries to search for the session's events. */
const DELIVERIES = 100;
const EVERY_MS = 3_000;

/** @param {import("../app.js").Portal} portal */
export function sessionPage(portal, id) {
  const { session, notifying } = portal;
  const state = h('div', { class: 'actions' });
  const stopState = session.may('use_workspace')
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
  const events = session.may('read_deliveries') ? eventList(portal, id) : null;
  notifying.sessionOpened(id);
  const element = h(
    'div',
    { class: 'page' },
    pageHead(id, {
      back: session.may('use_workspace') && { name: 'Human Agents', href: PAGES.humanAgents },
      actions: state,
    }),
    events?.element ??
      h(
        'section',
        { class: 'card' },
        emptyState(
          'people',
          'Reply in your operator desk',
          "The portal shows the session's state. Its messages are visible to roles that may read them.",
        ),
      ),
  );
  const stop = () => {
    stopState?.();
    events?.stop();
  };
  return { title: `Session ${id}`, element, stop };
}

function where(conversation, session) {
  if (!conversation) return h('span', { class: 'chip' }, 'Not in the operator workspace');
  const { assignee_id: assignee, since } = conversation;
  const chip =
    assignee === null
      ? h('span', { class: 'chip wait dot' }, 'Waiting')
      : h('span', { class: 'chip good dot' }, assignee === session.me.user_id ? 'With you' : `With ${assignee}`);
  return [h('span', { class: 'small muted' }, time(since)), h('span', { role: 'status' }, chip)];
}

function eventList(portal, id) {
  const { api, session } = portal;
  const list = h('ol', { class: 'transcript' });
  const body = h('div', { class: 'card-body' }, ghosts(3));
  const element = h(
    'section',
    { class: 'card', 'aria-labelledby': 'events' },
    h('div', { class: 'card-head' }, h('h2', { id: 'events' }, 'Delivered events')),
    body,
  );
  /** The times of the shown events. */
  const known = new Map();

  /** Reads new events and inserts them in chronological order. */
  async function load() {
    try {
      const query = `session_id=${encodeURIComponent(id)}&limit=${DELIVERIES}`;
      const { data } = await api.get(`/v1/deliveries?${query}`);
      const fresh = [...new Set(data.map((delivery) => delivery.event_id))].filter((event) => !known.has(event));
      const events = await Promise.all(fresh.map((event) => api.get(`/v1/events/${encodeURIComponent(event)}`)));
      for (const event of events) insert(event);
      if (known.size === 0) fill(body, nothing());
      else if (!list.isConnected) fill(body, list);
    } catch (error) {
      if (!list.isConnected) fill(body, errorState(wordsOf(error), load));
    }
  }
  function insert(event) {
    const at = Date.parse(event.occurred_at);
    const later = [...known].filter(([, other]) => other.at > at).map(([, other]) => other);
    const item = shown(event, session);
    list.insertBefore(item, later.length > 0 ? later.reduce((one, other) => (other.at < one.at ? other : one)).item : null);
    known.set(event.id, { at, item });
  }
  load();
  const timer = setInterval(() => document.hidden || load(), EVERY_MS);
  return { element, stop: () => clearInterval(timer) };
}

function nothing() {
  return emptyState(
    'send',
    'No delivered events in this session',
    "Events that the agent's push config selects, and notifications to users, appear here.",
  );
}

function shown(event, session) {
  const name = EVENTS[event.type] ?? event.type;
  const about = h('div', { class: 'small muted' }, name, ' · ', time(event.occurred_at));
  if (event.text === null) return h('li', { class: 'milestone' }, name, ' · ', time(event.occurred_at));
  const ours = event.type !== 'user_message';
  const text = session.may('read_bodies') && h('p', { class: 'text', dir: 'auto' }, event.text);
  return h('li', { class: ours ? 'bubble ours' : 'bubble' }, about, text);
}
