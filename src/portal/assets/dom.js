// Builds elements. Inserts text only as text nodes, so text from users and services is never parsed as HTML.

const SVG = 'http://www.w3.org/2000/svg';
const AS_PROPERTY = new Set(['value', 'checked', 'disabled', 'readOnly', 'hidden', 'required']);

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name of the element
 * @param {Record<string, unknown>} [attributes] functions are listeners; `false`, `null` and `undefined` are omitted
 * @param {...(Node | string | number | null | false | undefined | Array)} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on') && typeof value === 'function')
      element.addEventListener(key.slice(2), /** @type {EventListener} */ (value));
    else if (AS_PROPERTY.has(key)) element[key] = value;
    else if (value === true) element.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, String(value));
  }
  element.append(...kept(children));
  return element;
}

/** Replaces the children of `parent`. */
export function fill(parent, ...children) {
  parent.replaceChildren(...kept(children));
  return parent;
}

function kept(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/** The outlines of icons, on a grid of 20 units, with lines that are 1.5 units wide. */
const ICONS = {
  people:
    'M7.5 9.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM2 16.5c.4-3 2.5-4.5 5.5-4.5s5.1 1.5 5.5 4.5M13 4a2.7 2.7 0 0 1 0 5.2M15 12.3c1.7.6 2.7 2 3 4.2',
  agents:
    'M5.5 6.5h9a2 2 0 0 1 2 2v5a2 2 0 0 1-2 2h-9a2 2 0 0 1-2-2v-5a2 2 0 0 1 2-2ZM10 6.5V3.5M7.5 10.2v1.6M12.5 10.2v1.6M1.5 10v2.5M18.5 10v2.5',
  profile: 'M10 10a3.3 3.3 0 1 0 0-6.6 3.3 3.3 0 0 0 0 6.6ZM3.5 17c.6-3 3-4.5 6.5-4.5s5.9 1.5 6.5 4.5',
  leave: 'M12 3.5H5.5a1 1 0 0 0-1 1v11a1 1 0 0 0 1 1H12M9 10h8.5M14.5 6.8 17.7 10l-3.2 3.2',
  plus: 'M10 4v12M4 10h12',
  close: 'm5 5 10 10M15 5 5 15',
  back: 'M12 4.5 6.5 10l5.5 5.5',
  next: 'm8 4.5 5.5 5.5L8 15.5',
  bell: 'M10 2.8a4.7 4.7 0 0 0-4.7 4.7c0 4-1.8 5.5-1.8 5.5h13s-1.8-1.5-1.8-5.5A4.7 4.7 0 0 0 10 2.8ZM8.3 16.3c.8 1.2 2.6 1.2 3.4 0',
  alert: 'M10 3 2.3 16.5h15.4L10 3ZM10 8v4M10 14.2v.1',
  check: 'm4 10.5 4 4 8-9',
  replay: 'M4 10a6 6 0 1 1 1.8 4.3M4 15.5v-3.7h3.7',
  send: 'M17 3 9 11M17 3l-5 14-3-6-6-3 14-5Z',
  trash: 'M4 5.5h12M8 5.5V3.8h4v1.7M5.5 5.5l.7 11h7.6l.7-11M8.5 8.5v5M11.5 8.5v5',
  laptop: 'M4.5 4.5h11v8h-11zM2 15.5h16',
};

/** An icon. It is hidden from screen readers, because adjacent text or the button's label has the same meaning. */
export function icon(name, size = 20) {
  const svg = document.createElementNS(SVG, 'svg');
  const drawing = {
    viewBox: '0 0 20 20',
    width: size,
    height: size,
    fill: 'none',
    stroke: 'currentColor',
    'stroke-width': 1.5,
    'stroke-linecap': 'round',
    'stroke-linejoin': 'round',
    'aria-hidden': 'true',
  };
  for (const [key, value] of Object.entries(drawing)) svg.setAttribute(key, String(value));
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/** The product's logo: the crown of a flame tree. */
export function brandMark(size = 28) {
  return h('img', { src: '/portal/icon.svg', alt: '', width: size, height: size });
}

/** Shows an error next to the control that caused it. */
export function fillError(place, message) {
  return message ? fill(place, icon('alert', 16), h('span', {}, message)) : fill(place);
}

let lastId = 0;

/** A unique element id. */
export function freshId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/**
 * A control with a label, a help text and room for an error message.
 * @template {HTMLElement} Control
 * @param {string} label
 * @param {Control} control
 * @param {string} [help]
 * @returns {{element: HTMLElement, control: Control, fail: (message?: string | null) => void}}
 */
export function field(label, control, help) {
  const id = control.id || freshId('field');
  control.id = id;
  const helpId = `${id}-help`;
  const errorId = `${id}-error`;
  const error = h('p', { class: 'error', id: errorId });
  control.setAttribute('aria-describedby', help ? `${helpId} ${errorId}` : errorId);
  const element = h(
    'div',
    { class: 'field' },
    h('label', { for: id }, label),
    control,
    help && h('p', { class: 'small muted', id: helpId }, help),
    error,
  );
  const fail = (message) => {
    fillError(error, message);
    if (message) control.setAttribute('aria-invalid', 'true');
    else control.removeAttribute('aria-invalid');
  };
  return { element, control, fail };
}
