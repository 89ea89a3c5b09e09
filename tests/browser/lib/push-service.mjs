// A push service for Firefox on this machine. The browser connects by WebSocket, and the sender uses RFC 8030 and 8292. The push
// service checks requests as real services do, and stores messages for a browser that is not connected.
import crypto from 'node:crypto';
import http from 'node:http';

import { WebSocketServer } from './modules.mjs';
import { env } from './test.mjs';

const WEBSOCKET_PORT = 8180;
const HTTP_PORT = 8182;

const base64url = (bytes) => Buffer.from(bytes).toString('base64url');
const unbase64url = (text) => Buffer.from(text, 'base64url');

/** Starts it on the address that the service under test accepts as a push service. */
export async function pushService() {
  const service = new PushService(env('PUSH_ADDRESS'));
  await service.start();
  return service;
}

class PushService {
  /** All accepted and rejected messages. */
  log = [];
  #address;
  /** Each browser by its assigned name: its connection and waiting messages. */
  #browsers = new Map();
  /** Each subscription by the secret in its endpoint. */
  #subscriptions = new Map();
  #forgetsNext = false;
  #server;
  #sockets;

  constructor(address) {
    this.#address = address;
  }

  get url() {
    return `ws://${this.#address}:${WEBSOCKET_PORT}/`;
  }

  get origin() {
    return `http://${this.#address}:${HTTP_PORT}`;
  }

  async start() {
    this.#sockets = new WebSocketServer({
      host: this.#address,
      port: WEBSOCKET_PORT,
      handleProtocols: () => 'push-notification',
    });
    this.#sockets.on('connection', (socket) => this.#connected(socket));
    await new Promise((listening) => this.#sockets.once('listening', listening));
    this.#server = http.createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const { status, headers = {}, message = '' } = this.#post(request, Buffer.concat(chunks));
      this.log.push({ status, message, headers: request.headers });
      response.writeHead(status, { 'content-type': 'application/json', ...headers });
      response.end(JSON.stringify({ code: status, message }));
    });
    await new Promise((listening) => this.#server.listen(HTTP_PORT, this.#address, listening));
  }

  /** True if a browser is connected. */
  get hasBrowser() {
    return [...this.#browsers.values()].some(({ socket }) => socket !== null);
  }

  /** Loses a browser's state, as after a fault or a long absence: it finds no subscriptions when it reconnects. */
  forgetBrowser() {
    this.#forgetsNext = true;
    for (const { socket } of this.#browsers.values()) socket?.terminate();
  }

  close() {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#sockets.close();
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** Serves the browser. */
  #connected(socket) {
    let name = null;
    const say = (message) => socket.send(JSON.stringify(message));
    socket.on('close', () => {
      const browser = this.#browsers.get(name);
      if (browser?.socket !== socket) return;
      browser.socket = null;
      for (const waiting of browser.waiting) waiting.isSent = false;
    });
    socket.on('message', (bytes) => {
      const message = JSON.parse(bytes);
      switch (message.messageType) {
        case 'hello':
          name = this.#hello(message.uaid, socket);
          say({ messageType: 'hello', status: 200, uaid: name, use_webpush: true, broadcasts: {} });
          return this.#deliver(name);
        case 'register': {
          const secret = base64url(crypto.randomBytes(24));
          this.#subscriptions.set(secret, { browser: name, channel: message.channelID, key: message.key, isGone: false });
          const pushEndpoint = `${this.origin}/wpush/v2/${secret}`;
          return say({ messageType: 'register', status: 200, channelID: message.channelID, pushEndpoint });
        }
        case 'unregister':
          for (const one of this.#subscriptions.values()) one.isGone ||= one.channel === message.channelID;
          return say({ messageType: 'unregister', status: 200, channelID: message.channelID });
        case 'ack': {
          const read = new Set(message.updates.map(({ version }) => version));
          const browser = this.#browsers.get(name);
          browser.waiting = browser.waiting.filter(({ message: { version } }) => !read.has(version));
          return undefined;
        }
        case 'ping':
        case undefined:
          return say({});
        default:
          return undefined;
      }
    });
  }

  #hello(known, socket) {
    const forgets = this.#forgetsNext && known;
    if (forgets) {
      this.#forgetsNext = false;
      for (const one of this.#subscriptions.values()) one.isGone ||= one.browser === known;
    }
    const name = known && !forgets ? known : crypto.randomUUID().replaceAll('-', '');
    const waiting = this.#browsers.get(name)?.waiting ?? [];
    this.#browsers.set(name, { socket, waiting });
    return name;
  }

  #deliver(name) {
    const { socket, waiting } = this.#browsers.get(name) ?? { socket: null, waiting: [] };
    if (socket === null) return;
    for (const one of waiting.filter(({ isSent, until }) => !isSent && until > Date.now())) {
      one.isSent = true;
      socket.send(JSON.stringify(one.message));
    }
  }

  /** Serves the sender. */
  #post(request, body) {
    const refused = (status, message) => ({ status, message });
    const secret = /^\/wpush\/v2\/([\w-]+)$/.exec(request.url)?.[1];
    const subscription = this.#subscriptions.get(secret);
    if (request.method !== 'POST' || !subscription) return refused(404, 'no such endpoint');
    if (subscription.isGone) return refused(410, 'no such subscription');
    const wrong = this.#tokenFault(request.headers.authorization ?? '', subscription);
    if (wrong) return refused(401, wrong);
    const { ttl, topic, urgency, 'content-encoding': encoding } = request.headers;
    if (!/^\d+$/.test(ttl ?? '')) return refused(400, 'TTL');
    if (topic !== undefined && !/^[\w-]{1,32}$/.test(topic)) return refused(400, 'Topic');
    if (!/^(very-low|low|normal|high)$/.test(urgency ?? 'normal')) return refused(400, 'Urgency');
    if (body.length > 4096) return refused(413, 'too large');
    if (encoding !== 'aes128gcm') return refused(400, 'Content-Encoding');
    const browser = this.#browsers.get(subscription.browser);
    const version = crypto.randomUUID();
    const message = {
      messageType: 'notification',
      channelID: subscription.channel,
      version,
      data: base64url(body),
      headers: { encoding },
    };
    // A new message replaces a waiting message with the same topic (RFC 8030, section 5.4).
    browser.waiting = browser.waiting.filter((one) => one.isSent || topic === undefined || one.topic !== topic);
    browser.waiting.push({ message, topic, isSent: false, until: Date.now() + Number(ttl) * 1000 });
    this.#deliver(subscription.browser);
    return { status: 201, headers: { location: `${this.origin}/m/${version}`, ttl } };
  }

  /** The fault of a VAPID header (RFC 8292), or undefined. */
  #tokenFault(header, subscription) {
    const parameters = Object.fromEntries(
      header.replace(/^vapid /, '').split(',').map((one) => [one.trim()[0], one.trim().slice(2)]),
    );
    const { t: token, k: key } = parameters;
    if (!header.startsWith('vapid ') || !token || !key) return 'no VAPID token';
    if (key !== subscription.key.replace(/=+$/, '')) return 'another VAPID key';
    const point = unbase64url(key);
    const coordinates = { x: base64url(point.subarray(1, 33)), y: base64url(point.subarray(33)) };
    const publicKey = crypto.createPublicKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256', ...coordinates } });
    const [head, claims, signature] = token.split('.');
    const signed = Buffer.from(`${head}.${claims}`);
    const is = { key: publicKey, dsaEncoding: 'ieee-p1363' };
    if (!crypto.verify('sha256', signed, is, unbase64url(signature))) return 'a wrong signature';
    const { aud, exp, sub } = JSON.parse(unbase64url(claims));
    const now = Date.now() / 1000;
    if (aud !== this.origin) return `the audience ${aud}`;
    if (!(exp > now && exp <= now + 86_400)) return `the expiry ${exp}`;
    return /^(mailto:|https:)/.test(sub ?? '') ? undefined : `the subject ${sub}`;
  }
}
