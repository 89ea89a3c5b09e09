// The window's rows for headers. Users can add and remove rows. The portal learns only that a saved secret exists, not its
// value.

import { field, fillError, freshId, h, icon } from '../dom.js';
import { REENTRY, isAlwaysSecret, isStoredSecret, keepsSecrets } from './push-config-draft.js';

const MAX_HEADERS = 20;

/**
 * @param {Array<import("./push-config-draft.js").HeaderDraft>} drafts
 * @param {object} config the saved config
 * @param {() => string} url the current value of the URL field
 * @param {boolean} isReadOnly
 */
export function headerRows(drafts, config, url, isReadOnly) {
  const list = h('ul', { class: 'header-rows' });
  const error = h('p', { class: 'error', id: freshId('headers-error'), role: 'alert' });
  const add = h('button', { class: 'button short', type: 'button' }, icon('plus', 16), 'Add Header');
  /** @type {Row[]} */
  let rows = [];

  function append(draft) {
    const row = new Row(draft, config, url, () => {
      const place = rows.indexOf(row);
      rows = rows.filter((other) => other !== row);
      row.element.remove();
      count();
      (rows[place] ?? rows[place - 1])?.focus() ?? add.focus();
    });
    rows.push(row);
    list.append(row.element);
    count();
    return row;
  }
  function count() {
    add.disabled = rows.length >= MAX_HEADERS;
    rows.forEach((row, index) => row.number(index + 1));
  }
  add.addEventListener('click', () => append({ name: '', value: '', secret: false }).focus());
  drafts.forEach(append);

  const element = h(
    'fieldset',
    { class: 'bare' },
    h('legend', { class: 'legend' }, 'Headers'),
    list,
    error,
    !isReadOnly && h('div', {}, add),
  );
  return {
    element,
    read: () => rows.map((row) => row.read()),
    urlChanged: () => rows.forEach((row) => row.look()),
    /** @param {Map<string, string>} messages messages by pointer */
    fail(messages) {
      fillError(error, messages.get('/headers'));
      rows.forEach((row, index) =>
        row.fail(messages.get(`/headers/${index}/name`), messages.get(`/headers/${index}/value`)),
      );
    },
    firstFault: () => list.querySelector('[aria-invalid="true"]'),
  };
}

class Row {
  #config;
  #url;
  #name;
  #value;
  #secret;
  #legend = h('legend', { class: 'visually-hidden' });
  #set = h('span', { class: 'chip good' }, 'Set');
  #remove;

  constructor(draft, config, url, remove) {
    this.#config = config;
    this.#url = url;
    this.#name = field(
      'Name',
      h('input', {
        class: 'input',
        value: draft.name,
        maxlength: 128,
        autocomplete: 'off',
        spellcheck: 'false',
        autocapitalize: 'none',
      }),
    );
    this.#value = field(
      'Value',
      h('input', {
        class: 'input',
        value: draft.value,
        maxlength: 4096,
        autocomplete: 'new-password',
        spellcheck: 'false',
      }),
    );
    this.#value.element.querySelector('label').append(' ', this.#set);
    this.#secret = h('input', { type: 'checkbox', checked: draft.secret });
    this.#remove = h('button', { class: 'button quiet icon', type: 'button', onclick: remove }, icon('trash'));
    for (const control of [this.#name.control, this.#value.control]) control.addEventListener('input', () => this.look());
    this.#secret.addEventListener('change', () => this.look());
    this.element = h(
      'li',
      {},
      h(
        'fieldset',
        { class: 'bare header-row' },
        this.#legend,
        this.#name.element,
        this.#value.element,
        h('label', { class: 'check' }, this.#secret, 'Secret'),
        this.#remove,
      ),
    );
    this.look();
  }

  focus() {
    this.#name.control.focus();
    return true;
  }

  number(number) {
    this.#legend.textContent = `Header ${number}`;
    this.#remove.setAttribute('aria-label', `Remove header ${number}`);
  }

  read() {
    return { name: this.#name.control.value.trim(), value: this.#value.control.value, secret: this.#secret.checked };
  }

  /** Updates the row after the name, the value, `Secret` or the URL has changed. */
  look() {
    const { name, value } = this.read();
    const always = isAlwaysSecret(name);
    if (always) this.#secret.checked = true;
    this.#secret.disabled = always;
    const { checked: secret } = this.#secret;
    this.#value.control.type = secret ? 'password' : 'text';
    const isStored = secret && value === '' && isStoredSecret(name, this.#config);
    const isKept = isStored && keepsSecrets(this.#url(), this.#config);
    this.#set.hidden = !isKept;
    this.#value.control.placeholder = isKept ? 'Type to replace it' : '';
    this.#value.fail(isStored && !isKept ? REENTRY : null);
  }

  fail(name, value) {
    this.#name.fail(name);
    if (value) this.#value.fail(value);
    else this.look();
  }
}
