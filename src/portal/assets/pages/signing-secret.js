// Shows a newly created signing secret, once.

import { h, icon } from '../dom.js';

export function secretNotice(secret) {
  const text = h('input', { class: 'input code', readOnly: true, value: secret, 'aria-label': 'Signing secret' });
  const copy = h('button', { class: 'button', type: 'button' }, 'Copy');
  copy.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(secret);
      copy.replaceChildren(icon('check', 16), 'Copied');
    } catch {
      text.select();
    }
  });
  const notice = h(
    'div',
    { class: 'notice', role: 'status' },
    h(
      'div',
      { class: 'words' },
      h('h2', {}, 'Signing secret'),
      h(
        'p',
        { class: 'small' },
        'Your endpoint uses it to verify that a message is genuine. Store it now: it is not shown again.',
      ),
    ),
    h(
      'div',
      { class: 'secret-line' },
      text,
      copy,
      h('button', { class: 'button quiet', type: 'button', onclick: () => notice.remove() }, 'Done'),
    ),
  );
  return notice;
}
