// Maps addresses to pages and navigates between them. An address is a query of `/portal/`, as in the URL of a notification,
// `/portal/?session=...`.

const ROOT = '/portal/';

export const PAGES = {
  humanAgents: `${ROOT}?page=human-agents`,
  agents: `${ROOT}?page=agents`,
  profile: `${ROOT}?page=profile`,
};

export function sessionAddress(id) {
  return `${ROOT}?session=${encodeURIComponent(id)}`;
}

export function agentAddress(id) {
  return `${ROOT}?agent=${encodeURIComponent(id)}`;
}

/** @returns {{page: string, id: string | null}} `page` is empty if the address names no page */
export function read(location) {
  const query = new URL(location, document.baseURI).searchParams;
  if (query.has('session')) return { page: 'session', id: query.get('session') };
  if (query.has('agent')) return { page: 'agent', id: query.get('agent') };
  return { page: query.get('page') ?? '', id: null };
}

export class Router {
  /** Shows the page of an address. @type {(address: string) => void} */
  show = () => {};
  #mayLeave = async () => true;
  #isUnsaved = () => false;
  #index = 0;
  #address = location.href;
  #returning = false;
  #isAsking = false;

  constructor() {
    this.#index = history.state?.index ?? 0;
    history.replaceState({ index: this.#index }, '');
    addEventListener('popstate', (event) => this.#moved(event.state?.index ?? 0));
    addEventListener('click', (event) => this.#clicked(event));
    addEventListener('beforeunload', (event) => {
      if (this.#isUnsaved()) event.preventDefault();
    });
  }

  /**
   * Asks the user before navigation discards unsaved changes of the current page.
   * @param {() => boolean} isUnsaved
   * @param {() => Promise<boolean>} mayLeave asks the user whether to discard the changes
   */
  guard(isUnsaved, mayLeave) {
    this.#isUnsaved = isUnsaved;
    this.#mayLeave = mayLeave;
  }

  /** Navigates to an address if the user agrees to leave the current page. Returns whether it did. */
  async go(address, { replace = false } = {}) {
    if (this.#isUnsaved() && !(await this.#agrees())) return false;
    this.#unguard();
    if (replace) history.replaceState({ index: this.#index }, '', address);
    else history.pushState({ index: ++this.#index }, '', address);
    this.#arrive();
    return true;
  }

  async #moved(index) {
    if (this.#returning) {
      this.#returning = false;
      return;
    }
    if (this.#isUnsaved()) {
      // The browser has already navigated, so go back and then ask.
      const distance = index - this.#index;
      this.#returning = true;
      history.go(-distance);
      if (!(await this.#agrees())) return;
      this.#unguard();
      history.go(distance);
      return;
    }
    this.#index = index;
    if (location.href !== this.#address) this.#arrive();
  }

  #clicked(event) {
    const link = event.target.closest?.('a[href]');
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!link || !plain || event.defaultPrevented || link.target) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin || url.pathname !== ROOT || url.hash) return;
    event.preventDefault();
    this.go(url.href);
  }

  /** Asks the user. Shows only one question at a time. */
  async #agrees() {
    if (this.#isAsking) return false;
    this.#isAsking = true;
    try {
      return await this.#mayLeave();
    } finally {
      this.#isAsking = false;
    }
  }

  #arrive() {
    this.#address = location.href;
    this.show(location.href);
  }

  #unguard() {
    this.guard(
      () => false,
      async () => true,
    );
  }
}
