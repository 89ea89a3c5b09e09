// `Send test`: sends one test event and shows the full result.

import { Problem, sentence, wordsOf } from '../api.js';
import { fill, h, icon } from '../dom.js';
import { milliseconds } from '../time.js';
import { bodyOf } from './push-config-draft.js';
import { WEBHOOK_EVENTS, outcome } from './words.js';

const STEPS = [
  ['dns', 'DNS lookup'],
  ['connect', 'Connection'],
  ['tls', 'TLS'],
  ['first_byte', 'Answer'],
];

/**
 * @param {import("../api.js").Api} api
 * @param {string} path API path of the agent
 * @param {() => {draft: object | null, isUnsaved: boolean}} now
 */
export function endpointTest(api, path, now) {
  const event = h(
    'select',
    { class: 'input', 'aria-label': 'Event to send' },
    Object.entries(WEBHOOK_EVENTS).map(([code, name]) => h('option', { value: code }, name)),
  );
  event.value = 'user_message';
  const button = h('button', { class: 'button', type: 'button' }, icon('send', 18), 'Send test');
  const result = h('div', { class: 'test-result', role: 'status' });
  const element = h(
    'div',
    { class: 'card-row test' },
    h(
      'div',
      { class: 'words' },
      h('div', { class: 'title' }, 'Try it out'),
      h('div', { class: 'small muted' }, 'Sends one test event now, with the settings on this page, saved or not.'),
    ),
    h('div', { class: 'actions tight' }, event, button),
    result,
  );

  button.addEventListener('click', async () => {
    if (button.getAttribute('aria-busy') === 'true') return;
    button.setAttribute('aria-busy', 'true');
    fill(result, h('p', { class: 'muted' }, 'Sending…'));
    const { draft, isUnsaved } = now();
    const body = { event: event.value, ...(isUnsaved ? { config: bodyOf(draft) } : {}) };
    try {
      fill(result, shown((await api.send('POST', `${path}/push-config/test`, body)).body));
    } catch (error) {
      fill(result, refusal(error));
    } finally {
      button.removeAttribute('aria-busy');
    }
  });
  return {
    element,
    show(canSend) {
      button.disabled = !canSend;
      event.disabled = !canSend;
    },
  };
}

function refusal(error) {
  const faults = error instanceof Problem ? error.errors : [];
  const words =
    faults.length > 0
      ? faults.map(({ pointer, message }) => h('li', {}, `${pointer.replace('/config/', '')}: ${sentence(message)}`))
      : h('li', {}, wordsOf(error));
  return h('div', { class: 'notice bad' }, icon('alert'), h('ul', { class: 'words' }, words));
}

/** Shows texts from the endpoint as text nodes, never as HTML. */
function shown({ outcome: code, response, request, timing_ms: timing, diagnosis, curl }) {
  const { name, tone } = outcome(code);
  return [
    h(
      'div',
      { class: 'actions' },
      h('span', { class: `chip dot ${tone}` }, name),
      response && h('span', {}, 'Status ', h('strong', {}, response.status)),
      h('span', { class: 'muted' }, 'in ', milliseconds(timing.total)),
    ),
    h('p', {}, diagnosis.hint),
    timings(timing),
    response && h('details', { open: true }, h('summary', {}, 'Response of the endpoint'), answer(response)),
    h(
      'details',
      {},
      h('summary', {}, 'Sent request'),
      h(
        'pre',
        { class: 'code-box' },
        request.headers.map(({ name: header, value, secret }) => `${header}: ${secret ? '(secret)' : value}`).join('\n'),
        '\n\n',
        request.body,
      ),
    ),
    h('details', {}, h('summary', {}, 'As a curl command'), h('pre', { class: 'code-box' }, curl)),
  ];
}

function answer({ headers, body, truncated }) {
  return h(
    'pre',
    { class: 'code-box', tabindex: '0', 'aria-label': 'Response of the endpoint' },
    headers.map(({ name, value }) => `${name}: ${value}`).join('\n'),
    '\n\n',
    body || '(no body)',
    truncated && '\n…',
  );
}

/** The bars of the steps. Each step begins when the previous step ends. */
function timings(timing) {
  const total = Math.max(timing.total, 0.001);
  let begun = 0;
  const rows = STEPS.map(([step, name]) => {
    const took = timing[step];
    const bar = h('span', { class: 'bar', hidden: took === null });
    bar.style.setProperty('--from', `${(100 * begun) / total}%`);
    bar.style.setProperty('--length', `${Math.max(0.8, (100 * (took ?? 0)) / total)}%`);
    begun += took ?? 0;
    return h(
      'tr',
      {},
      h('th', { scope: 'row' }, name),
      h('td', { class: 'track' }, bar),
      h('td', { class: 'number' }, took === null ? 'not needed' : milliseconds(took)),
    );
  });
  return h(
    'table',
    { class: 'timings' },
    h('caption', { class: 'visually-hidden' }, 'How long each step took'),
    h('tbody', {}, rows),
  );
}
