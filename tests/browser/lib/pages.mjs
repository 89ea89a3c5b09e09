// Opens the portal's pages as a user does, and finds elements by role and name.
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';

import { origin, token } from './portal.mjs';
import { until } from './test.mjs';

/** A visible element by its role and name. */
export const named = (role, name) => `::-p-aria(${name}[role="${role}"])`;

/** A new tab of a browser, or of one of its contexts; it records console errors. */
export async function tab(browser) {
  const page = await browser.newPage();
  page.setDefaultTimeout(15_000);
  page.complaints = [];
  page.on('console', (message) => message.type() === 'error' && page.complaints.push(message.text()));
  page.on('pageerror', (error) => page.complaints.push(error.message));
  return page;
}

export async function click(page, role, name) {
  await page.locator(named(role, name)).click();
}

/** Replaces the text of a field by typing. */
export async function type(page, name, text) {
  const field = await page.waitForSelector(`::-p-aria(${name}[role="textbox"])`);
  await field.evaluate((input) => input.select());
  if (text === '') await field.press('Backspace');
  else await field.type(text);
  await field.evaluate((input) => input.dispatchEvent(new Event('change', { bubbles: true })));
}

/** Waits until the page shows the text; returns its element. */
export async function shows(page, text) {
  return await until(`the page shows "${text}"`, () =>
    page.evaluate((wanted) => document.body.innerText.replace(/\s+/g, ' ').includes(wanted), text),
  );
}

export async function text(page, selector) {
  return await page.$eval(selector, (element) => element.innerText.replace(/\s+/g, ' ').trim());
}

/** Signs in with a token, at the address. */
export async function signIn(page, bearer, address = '') {
  await page.goto(`${origin}/portal/${address}`);
  const field = await page.waitForSelector('input[name=token]');
  await field.type(bearer);
  await click(page, 'button', 'Sign in');
  await page.waitForSelector('nav[aria-label=Portal]');
}

/** The same for a user of the tenant. */
export const signInAs = (page, user, role, address) => signIn(page, token(user, role), address);

/** Navigates to a page of the portal like a link. */
export async function open(page, address) {
  await page.goto(`${origin}/portal/${address}`);
  await page.waitForSelector('nav[aria-label=Portal]');
}

/** The names of the menu's items, without badges. */
export const menu = (page) => page.$$eval('.menu .item .name', (items) => items.map((item) => item.textContent));

/** The text of the badge, or null. */
export const badge = (page) =>
  page.evaluate(() => {
    const badge = document.querySelector('.menu .badge');
    return badge === null || badge.hidden ? null : badge.firstElementChild.textContent;
  });

/** True if the page's icon has a red dot. */
export const hasDot = (page) => page.evaluate(() => document.querySelector('link[rel~=icon][data-dot]') !== null);

/** No step of a test may leave errors on the console. */
export function assertQuiet(page, ...allowed) {
  const loud = page.complaints.filter((complaint) => !allowed.some((pattern) => pattern.test(complaint)));
  assert.deepEqual(loud, []);
}

/**
 * Replaces the browser's push service, because Chromium's own push service needs the internet. The page itself creates the
 * subscription, with real keys and an endpoint that the service accepts.
 */
export async function pretendPushService(page, endpointOrigin) {
  await page.evaluateOnNewDocument((base) => {
    let current = null;
    PushManager.prototype.getSubscription = async () => current;
    PushManager.prototype.subscribe = async (options) => {
      const keys = await crypto.subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, true, ['deriveBits']);
      const point = await crypto.subtle.exportKey('raw', keys.publicKey);
      const text = (bytes) =>
        btoa(String.fromCharCode(...new Uint8Array(bytes)))
          .replaceAll('+', '-')
          .replaceAll('/', '_')
          .replaceAll('=', '');
      const endpoint = `${base}/${text(crypto.getRandomValues(new Uint8Array(16)))}`;
      const auth = text(crypto.getRandomValues(new Uint8Array(16)));
      current = {
        endpoint,
        options: { ...options, applicationServerKey: options.applicationServerKey.buffer ?? options.applicationServerKey },
        toJSON: () => ({ endpoint, expirationTime: null, keys: { p256dh: text(point), auth } }),
        unsubscribe: async () => {
          current = null;
          return true;
        },
      };
      return current;
    };
  }, endpointOrigin);
}

/** A user who allows notifications when the browser asks. */
export async function allowWhenAsked(page) {
  await page.evaluateOnNewDocument(() => {
    let permission = 'default';
    Object.defineProperty(Notification, 'permission', { get: () => permission });
    Notification.requestPermission = async () => {
      permission = 'granted';
      return permission;
    };
  });
}

/** Shortens timeouts of this many ms, to test what a page does after a timeout. */
export async function hasten(page, ms) {
  await page.evaluateOnNewDocument((long) => {
    const real = window.setTimeout;
    window.setTimeout = (callback, delay, ...more) => real(callback, delay === long ? 50 : delay, ...more);
  }, ms);
}

/** Makes intervals and the page's clock run ten times as fast. */
export async function quicken(page) {
  await page.evaluateOnNewDocument(() => {
    const [interval, now] = [window.setInterval, performance.now.bind(performance)];
    window.setInterval = (callback, delay, ...more) => interval(callback, delay / 10, ...more);
    performance.now = () => now() * 10;
  });
}

/** Records the page's app badges in `window.appBadges`, because only an installed app shows them. */
export async function keepAppBadges(page) {
  await page.evaluateOnNewDocument(() => {
    window.appBadges = [];
    navigator.setAppBadge = async (count) => window.appBadges.push(count);
    navigator.clearAppBadge = async () => window.appBadges.push(0);
  });
}

/** An integrator's endpoint on this machine; `answer` may change at any time. `close()` stops it. */
export async function endpoint() {
  const received = [];
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    received.push({ url: request.url, headers: request.headers, body: JSON.parse(Buffer.concat(chunks).toString()) });
    response.writeHead(own.answer.status, own.answer.headers).end(own.answer.body);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const own = {
    url: (path = '/webhook') => `http://127.0.0.1:${server.address().port}${path}`,
    answer: { status: 200, headers: { 'content-type': 'text/plain' }, body: 'thank you' },
    received,
    close: () => server.close(),
  };
  return own;
}

/** A proxy that keeps its address when the service behind it is replaced. */
export async function gate(first) {
  let target = new URL(first);
  const open = new Set();
  const server = net.createServer((near) => {
    const far = net.connect(Number(target.port), target.hostname);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ]) {
      open.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        open.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    leadTo: (next) => {
      target = new URL(next);
    },
    close: () => {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
