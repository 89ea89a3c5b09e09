// Parses Server-Sent Events from a `fetch` response, because `EventSource` cannot send a bearer token.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

/**
 * @typedef {object} ServerEvent
 * @property {string} type
 * @property {string} data
 * @property {string | null} id
 */

/**
 * Reads events until the end of the stream. Throws if the connection fails.
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @param {{onEvent: (event: ServerEvent) => void, onRetry: (ms: number) => void, onBytes: () => void}} hear
 */
export async function readEvents(body, { onEvent, onRetry, onBytes }) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onBytes();
    rest = (rest + value).replaceAll('\r\n', '\n');
    const blocks = rest.split('\n\n');
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const fields = fieldsOf(block);
      const retry = fields.get('retry');
      if (retry !== undefined && /^\d+$/.test(retry)) onRetry(Number(retry));
      const data = fields.get('data');
      if (data !== undefined) onEvent({ type: fields.get('event') ?? 'message', data, id: fields.get('id') ?? null });
    }
  }
}

/** @param {string} block */
function fieldsOf(block) {
  /** @type {Map<string, string>} */
  const fields = new Map();
  for (const line of block.split('\n').filter((line) => line !== '' && !line.startsWith(':'))) {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    const before = name === 'data' ? fields.get('data') : undefined;
    fields.set(name, before === undefined ? value : `${before}\n${value}`);
  }
  return fields;
}
