// The red dot on the page's icon. It is shown while another tab is in front and conversations are active.

const SIZE = 64;

/** Replaces the page's icon with one that has a dot, until the user returns. */
export class FaviconDot {
  #document;
  #count = 0;
  /** The page's icon while the dotted one replaces it. @type {HTMLLinkElement | null} */
  #own = null;
  /** @type {HTMLLinkElement | null} */
  #dotted = null;
  #look = () => void this.#update();

  /** @param {Document} document */
  constructor(document) {
    this.#document = document;
    document.addEventListener('visibilitychange', this.#look);
  }

  /** @param {number} count the number of active conversations */
  show(count) {
    this.#count = count;
    void this.#update();
  }

  remove() {
    this.#document.removeEventListener('visibilitychange', this.#look);
    this.show(0);
  }

  get #isWanted() {
    return this.#document.visibilityState === 'hidden' && this.#count > 0;
  }

  async #update() {
    if (!this.#isWanted) return this.#restore();
    if (this.#dotted) return;
    const own = /** @type {HTMLLinkElement | null} */ (this.#document.querySelector('link[rel~="icon"]'));
    const dotted = this.#document.createElement('link');
    this.#dotted = dotted;
    this.#own = own;
    dotted.rel = 'icon';
    dotted.type = 'image/png';
    dotted.dataset['dot'] = 'true';
    dotted.href = await drawn(this.#document, own?.href);
    // The user might have returned to the page while the icon was drawn.
    if (this.#dotted !== dotted) return;
    own?.remove();
    this.#document.head.append(dotted);
  }

  #restore() {
    this.#dotted?.remove();
    if (this.#own && !this.#own.isConnected) this.#document.head.append(this.#own);
    this.#dotted = null;
    this.#own = null;
  }
}

/**
 * Draws the icon with a dot. If the icon cannot be drawn, draws only the dot.
 * @param {Document} document
 * @param {string | undefined} icon
 */
async function drawn(document, icon) {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = SIZE;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  if (icon) {
    try {
      const image = new Image(SIZE, SIZE);
      image.src = icon;
      await image.decode();
      context.drawImage(image, 0, 0, SIZE, SIZE);
    } catch {
      // If the icon cannot be loaded, draw only the dot.
    }
  }
  const radius = SIZE * 0.27;
  const center = SIZE - radius;
  context.globalCompositeOperation = 'destination-out';
  circle(context, center, radius + SIZE * 0.06, '#000');
  context.globalCompositeOperation = 'source-over';
  circle(context, center, radius, '#d92d20');
  return canvas.toDataURL('image/png');
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} center
 * @param {number} radius
 * @param {string} color
 */
function circle(context, center, radius, color) {
  context.beginPath();
  context.arc(center, center, radius, 0, 2 * Math.PI);
  context.fillStyle = color;
  context.fill();
}
