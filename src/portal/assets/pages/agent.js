// The page of an agent: its deliveries and, in Advanced mode, its push config. The page's `Save` sends the draft of the push
// config to the service.

import { Problem, wordsOf } from '../api.js';
import { advancedCard } from './advanced-card.js';
import { deliveriesCard } from './deliveries.js';
import { fill, fillError, h, icon } from '../dom.js';
import { bodyOf, draftOf, isSame, isUnset } from './push-config-draft.js';
import { figuresCard } from './figures.js';
import { pageHead } from './head.js';
import { PAGES } from '../router.js';
import { secretNotice } from './signing-secret.js';
import { errorState, ghosts, toast } from '../windows.js';

const ADVANCED = 'flametree.advanced-mode';

/** @param {import("../app.js").Portal} portal */
export function agentPage(portal, id) {
  const page = new AgentPage(portal, id);
  page.load();
  return page;
}

class AgentPage {
  #portal;
  #id;
  #path;
  #config = null;
  #etag = null;
  #draft = null;
  #card = null;
  #stops = [];
  #body = h('div', { class: 'page-body' }, h('div', { class: 'card' }, ghosts(3)));
  #notices = h('div', { class: 'page-body' });
  #error = h('p', { class: 'error', role: 'alert' });
  #unsaved = h('span', { class: 'chip wait dot', role: 'status' });
  #save = h('button', { class: 'button primary', type: 'button', disabled: true }, 'Save');
  #advanced = h('input', { class: 'switch', type: 'checkbox', role: 'switch', checked: isAdvanced() });

  constructor(portal, id) {
    this.#portal = portal;
    this.#id = id;
    this.#path = `/v1/agents/${encodeURIComponent(id)}`;
    this.title = id;
    this.#save.addEventListener('click', () => this.#send());
    this.#advanced.addEventListener('change', () => {
      keepAdvanced(this.#advanced.checked);
      this.#show();
    });
    this.element = h(
      'div',
      { class: 'page' },
      pageHead(id, {
        back: { name: 'Agents', href: PAGES.agents },
        state: this.#unsaved,
        actions: [h('label', { class: 'switched' }, 'Advanced mode', this.#advanced), this.#mayEdit && this.#save],
      }),
      this.#error,
      this.#notices,
      this.#body,
    );
  }

  get #mayEdit() {
    return this.#portal.session.may('edit_configs');
  }

  isUnsaved() {
    return this.#isChanged || (this.#card?.isOpenWithChanges() ?? false);
  }

  /** Whether the draft has changes that the page's `Save` would send. */
  get #isChanged() {
    return this.#draft !== null && !isSame(this.#draft, this.#config);
  }

  stop() {
    for (const stop of this.#stops) stop();
    this.#stops = [];
  }

  async load() {
    try {
      const { body, etag } = await this.#portal.api.send('GET', `${this.#path}/push-config`);
      this.#is(body, etag);
      this.#build();
    } catch (error) {
      fill(
        this.#body,
        h(
          'div',
          { class: 'card' },
          errorState(wordsOf(error), () => this.load()),
        ),
      );
    }
  }

  /** Sets the saved config and keeps the user's draft. */
  #is(config, etag) {
    this.#config = config;
    this.#etag = etag;
    this.#draft = isUnset(config) ? null : draftOf(config);
  }

  #build() {
    this.stop();
    const { portal, id } = { portal: this.#portal, id: this.#id };
    this.#card = advancedCard({
      portal,
      path: this.#path,
      isReadOnly: !this.#mayEdit,
      take: (draft) => {
        this.#draft = draft;
        this.#show();
      },
    });
    const figures = figuresCard(portal, id);
    const deliveries = portal.session.may('read_deliveries') ? deliveriesCard(portal, id, figures.refresh) : null;
    this.#stops = [figures.stop, deliveries?.stop].filter(Boolean);
    fill(this.#body, figures.element, this.#card.element, deliveries?.element);
    this.#show();
  }

  #show() {
    const isUnsaved = this.#isChanged;
    this.#save.disabled = !isUnsaved;
    this.#unsaved.textContent = isUnsaved ? 'Not saved yet' : '';
    this.#unsaved.hidden = !isUnsaved;
    if (!this.#card) return;
    this.#card.element.hidden = !this.#advanced.checked;
    this.#card.show({ config: this.#config, draft: this.#draft, isUnsaved });
  }

  async #send() {
    if (this.#save.getAttribute('aria-busy') === 'true' || !this.#isChanged) return;
    this.#save.setAttribute('aria-busy', 'true');
    fillError(this.#error, null);
    fill(this.#notices);
    try {
      const headers = { 'If-Match': this.#etag };
      const { body, etag } = await this.#portal.api.send('PUT', `${this.#path}/push-config`, bodyOf(this.#draft), {
        headers,
      });
      const { warnings = [], signing_secret: secret, ...config } = body;
      this.#is(config, etag);
      this.#show();
      toast('Saved');
      fill(this.#notices, secret && secretNotice(secret), warnings.map((found) => warning(found, config)));
    } catch (error) {
      this.#refused(error);
    } finally {
      this.#save.removeAttribute('aria-busy');
    }
  }

  #refused(error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 412) {
      const reload = h('button', { class: 'button', type: 'button' }, 'Load the other version');
      reload.addEventListener('click', () => {
        fill(this.#notices);
        this.#draft = null;
        this.load();
      });
      fill(
        this.#notices,
        h(
          'div',
          { class: 'notice wait', role: 'alert' },
          h(
            'p',
            { class: 'words' },
            'Another user has changed this configuration since you opened the page. Nothing was ' +
              'saved. Your changes stay here until you load the other version.',
          ),
          reload,
        ),
      );
    } else if (error.errors.length > 0 && this.element.isConnected) {
      this.#advanced.checked = true;
      this.#show();
      this.#card.open(error.errors);
    } else {
      fillError(this.#error, error.words);
    }
  }
}

function warning({ pointer, code, message }, config) {
  const words =
    code === 'credential_not_secret'
      ? ['Saved, but everyone who may read this sees a value: the header ', config.headers[pointer.split('/').at(-1)].name]
      : ['Saved, but messages cannot reach this URL now. The host'];
  return h(
    'div',
    { class: 'notice wait', role: 'status' },
    icon('alert'),
    h('p', { class: 'words' }, words, ' ', message, '.'),
  );
}

function isAdvanced() {
  try {
    return localStorage.getItem(ADVANCED) === 'on';
  } catch {
    return false;
  }
}

function keepAdvanced(isOn) {
  try {
    localStorage.setItem(ADVANCED, isOn ? 'on' : 'off');
  } catch {
    // In a browser without storage, the mode is lost on the next page load.
  }
}
