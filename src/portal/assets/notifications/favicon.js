// The red dot on the page's icon, while another tab is in front and somebody waits.

const SIZE = 64;

/** The page's icon with a dot, and without it as soon as the person is back. */
export class FaviconDot {
  #document;
  #count = 0;
  /** The page's own icon, while the one with the dot stands in its place. @type {HTMLLinkElement | null} */
  #own = null;
  /** @type {HTMLLinkElement | null} */
  #dotted = null;
  #look = () => void this.#update();

  /** @param {Document} document */
  constructor(document) {
    this.#document = document;
    document.addEventListener('visibilitychange', this.#look);
  }

  /** @param {number} count the active conversations */
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
    // Drawing took a moment, in which the person may have come back.
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
 * The icon with a dot, or the dot alone where the icon cannot be drawn.
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
      // An icon that does not load is no reason to show no dot.
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
