// The window `Push Notification Configuration`. The window saves to the page's draft. The page's `Save` sends the draft to the
// service.

import { sentence } from '../api.js';
import { field, fillError, freshId, h, icon } from '../dom.js';
import { faultsOf, placeOf } from './push-config-draft.js';
import { headerRows } from './push-config-headers.js';
import { WEBHOOK_EVENTS } from './words.js';
import { openWindow } from '../windows.js';

/**
 * Opens the window. Returns a function that reports whether the window has unsaved changes.
 * @param {object} options
 * @param {object} options.draft the initial draft
 * @param {object} options.config the saved config
 * @param {Array<{pointer: string, message: string}>} [options.faults] the faults that the service found in the draft
 * @param {boolean} options.isReadOnly
 * @param {(draft: object) => void} options.save receives the draft when the user clicks the window's `Save`
 */
export function openPushConfigWindow({ draft, config, faults = [], isReadOnly, save }) {
  const form = new Form(draft, config, isReadOnly);
  const dialog = h(
    'dialog',
    { class: 'wide', 'aria-labelledby': 'push-config-title' },
    h(
      'form',
      { novalidate: true },
      h(
        'div',
        { class: 'window-head' },
        h('h2', { id: 'push-config-title' }, 'Push Notification Configuration'),
        h(
          'button',
          { class: 'button quiet icon', type: 'button', 'aria-label': 'Close', onclick: () => dialog.close() },
          icon('close'),
        ),
      ),
      h('div', { class: 'window-body' }, h('fieldset', { class: 'bare', disabled: isReadOnly }, form.elements)),
      h(
        'div',
        { class: 'window-foot' },
        h('button', { class: 'button', type: 'button', onclick: () => dialog.close() }, isReadOnly ? 'Close' : 'Cancel'),
        !isReadOnly && h('button', { class: 'button primary', type: 'submit' }, 'Save'),
      ),
    ),
  );
  dialog.addEventListener('submit', (event) => {
    event.preventDefault();
    const next = form.read();
    const found = faultsOf(next, config);
    if (!form.show(found)) return;
    dialog.close();
    save(next);
  });
  openWindow(dialog);
  if (faults.length > 0) form.show(faults.map(({ pointer, message }) => ({ pointer, message: sentence(message) })));
  const before = JSON.stringify(form.read());
  return { isChanged: () => dialog.open && JSON.stringify(form.read()) !== before };
}

class Form {
  #draft;
  #enabled;
  #url;
  #headers;
  #events = new Map();
  #eventsError;
  #otherError = h('p', { class: 'error', role: 'alert' });

  constructor(draft, config, isReadOnly) {
    this.#draft = draft;
    this.#enabled = h('input', { class: 'switch', type: 'checkbox', role: 'switch', checked: draft.enabled });
    this.#url = field(
      'URL',
      h('input', {
        class: 'input',
        type: 'url',
        value: draft.url,
        autocomplete: 'off',
        spellcheck: 'false',
        placeholder: 'https://example.com/webhook',
        maxlength: 2048,
      }),
    );
    this.#headers = headerRows(draft.headers, config, () => this.#url.control.value, isReadOnly);
    this.#url.control.addEventListener('change', () => this.#headers.urlChanged());
    this.#eventsError = h('p', { class: 'error', id: freshId('events-error') });
    this.elements = [
      h('label', { class: 'switched' }, this.#enabled, 'Enabled'),
      this.#url.element,
      this.#headers.element,
      this.#eventBoxes(draft),
      this.#otherError,
    ];
  }

  #eventBoxes(draft) {
    const boxes = Object.entries(WEBHOOK_EVENTS).map(([code, name]) => {
      const box = h('input', { type: 'checkbox', checked: draft.events.includes(code) });
      this.#events.set(code, box);
      return h('label', { class: 'check' }, box, name);
    });
    return h(
      'fieldset',
      { class: 'bare', 'aria-describedby': this.#eventsError.id },
      h('legend', { class: 'legend' }, 'Events'),
      h('div', { class: 'event-boxes' }, boxes),
      this.#eventsError,
    );
  }

  /** The draft with the user's edits. */
  read() {
    return {
      ...this.#draft,
      enabled: this.#enabled.checked,
      url: this.#url.control.value.trim(),
      headers: this.#headers.read(),
      events: [...this.#events].filter(([, box]) => box.checked).map(([code]) => code),
    };
  }

  /** Shows each fault beside its field and focuses the first one. Returns true if there are no faults. */
  show(faults) {
    const messages = new Map();
    for (const { pointer, message } of faults) {
      const place = placeOf(pointer);
      if (!messages.has(place)) messages.set(place, message);
    }
    this.#url.fail(messages.get('/url'));
    this.#headers.fail(messages);
    fillError(this.#eventsError, messages.get('/events'));
    for (const box of this.#events.values()) box.setAttribute('aria-invalid', String(messages.has('/events')));
    fillError(this.#otherError, messages.get(''));
    const first = messages.has('/url')
      ? this.#url.control
      : (this.#headers.firstFault() ?? (messages.has('/events') ? this.#events.values().next().value : null));
    first?.focus();
    return messages.size === 0;
  }
}
