// Sign-in with a token. In a demonstration, users can choose one of several roles instead.

import { wordsOf } from '../api.js';
import { brandMark, field, fill, h, icon } from '../dom.js';

/**
 * @param {{reason?: string, signIn: (token: string) => Promise<void>}} options `signIn` throws if the service refuses the token
 */
export function signInPage({ reason, signIn }) {
  const form = tokenForm(signIn);
  const way = h('div', { class: 'choices' }, form);
  const element = h(
    'main',
    { class: 'sign-in' },
    h('div', { class: 'brand' }, brandMark(36), h('span', {}, 'Flametree')),
    h(
      'div',
      { class: 'card block' },
      h('h1', {}, 'Sign in'),
      reason && h('p', { class: 'notice wait', role: 'status' }, reason),
      way,
    ),
  );
  offered().then((people) => {
    if (people.length === 0) return;
    const withToken = h('details', {}, h('summary', {}, 'Sign in with a token instead'), form);
    fill(way, h('p', { class: 'muted' }, 'Choose a role'), roleButtons(people, signIn), withToken);
  });
  return { title: 'Sign in', element };
}

function tokenForm(signIn) {
  const input = h('input', {
    class: 'input',
    type: 'password',
    name: 'token',
    autocomplete: 'current-password',
    spellcheck: 'false',
    autocapitalize: 'none',
  });
  const token = field('Token', input, 'The token that your identity provider or an admin gave you.');
  const button = h('button', { class: 'button primary', type: 'submit' }, 'Sign in');
  const submit = async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) {
      token.fail('Enter your token.');
      input.focus();
      return;
    }
    token.fail(null);
    await busily(
      button,
      () => signIn(text),
      (words) => {
        token.fail(words);
        input.focus();
      },
    );
  };
  return h('form', { onsubmit: submit, novalidate: true }, token.element, button);
}

function roleButtons(people, signIn) {
  const error = h('p', { class: 'error', role: 'alert' });
  const button = ({ name, role, about, token }) => {
    const choice = h(
      'button',
      { class: 'choice', type: 'button' },
      h('span', { class: 'initial', 'aria-hidden': 'true' }, name.charAt(0)),
      h(
        'span',
        {},
        h('strong', {}, role),
        ' ',
        h('span', { class: 'muted' }, `as ${name}`),
        h('br'),
        h('span', { class: 'small muted' }, about),
      ),
      icon('next'),
    );
    choice.addEventListener('click', () =>
      busily(
        choice,
        () => signIn(token),
        (words) => fill(error, words),
      ),
    );
    return choice;
  };
  return [people.map(button), error];
}

async function busily(button, work, failed) {
  if (button.getAttribute('aria-busy') === 'true') return;
  button.setAttribute('aria-busy', 'true');
  try {
    await work();
  } catch (error) {
    failed(error.status === 401 ? 'This token is unknown, expired or revoked.' : wordsOf(error));
  } finally {
    button.removeAttribute('aria-busy');
  }
}

/** The users that a demonstration offers. Other deployments return an empty list. */
async function offered() {
  try {
    const response = await fetch('/portal/sign-in.json', { credentials: 'omit' });
    return response.ok ? (await response.json()).people : [];
  } catch {
    return [];
  }
}
