// The portal's pages as a person uses them: by the names of what is on them.
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';

import { origin, token } from './portal.mjs';
import { until } from './test.mjs';

/** What a person sees by its role and name. */
export const named = (role, name) => `::-p-aria(${name}[role="${role}"])`;

/** A new tab of a browser, or of one of its contexts; whatever its console complains of is kept. */
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

/** Types into a field, in place of what stands there. */
export async function type(page, name, text) {
  const field = await page.waitForSelector(`::-p-aria(${name}[role="textbox"])`);
  await field.evaluate((input) => input.select());
  if (text === '') await field.press('Backspace');
  else await field.type(text);
  await field.evaluate((input) => input.dispatchEvent(new Event('change', { bubbles: true })));
}

/** Waits until the page shows the text; gives what holds it. */
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

/** The same for a person of the tenant. */
export const signInAs = (page, user, role, address) => signIn(page, token(user, role), address);

/** Goes to a page of the portal as a link there would. */
export async function open(page, address) {
  await page.goto(`${origin}/portal/${address}`);
  await page.waitForSelector('nav[aria-label=Portal]');
}

/** The names of the menu's items, without badges. */
export const menu = (page) => page.$$eval('.menu .item .name', (items) => items.map((item) => item.textContent));

/** What the badge shows; null: there is none. */
export const badge = (page) =>
  page.evaluate(() => {
    const badge = document.querySelector('.menu .badge');
    return badge === null || badge.hidden ? null : badge.firstElementChild.textContent;
  });

/** Whether the icon of the page has its red dot. */
export const hasDot = (page) => page.evaluate(() => document.querySelector('link[rel~=icon][data-dot]') !== null);

/** No step of a test may leave errors on the console. */
export function assertQuiet(page, ...allowed) {
  const loud = page.complaints.filter((complaint) => !allowed.some((pattern) => pattern.test(complaint)));
  assert.deepEqual(loud, []);
}

/**
 * Makes the browser's push service answer: Chromium has none without the internet. The subscription is made by the page
 * itself, with real keys and an endpoint that the service knows as a push service.
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

/** A person who says yes when the browser asks, and not before. */
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

/** Makes limits of this many ms short: what a page does when the time is over, without the wait. */
export async function hasten(page, ms) {
  await page.evaluateOnNewDocument((long) => {
    const real = window.setTimeout;
    window.setTimeout = (callback, delay, ...more) => real(callback, delay === long ? 50 : delay, ...more);
  }, ms);
}

/** Lets intervals, and the clock that counts from the page's beginning, run ten times as fast. */
export async function quicken(page) {
  await page.evaluateOnNewDocument(() => {
    const [interval, now] = [window.setInterval, performance.now.bind(performance)];
    window.setInterval = (callback, delay, ...more) => interval(callback, delay / 10, ...more);
    performance.now = () => now() * 10;
  });
}

/** Keeps what the page asks the app's icon to show, as `window.appBadges`: only an installed app has such an icon. */
export async function keepAppBadges(page) {
  await page.evaluateOnNewDocument(() => {
    window.appBadges = [];
    navigator.setAppBadge = async (count) => window.appBadges.push(count);
    navigator.clearAppBadge = async () => window.appBadges.push(0);
  });
}

/** An endpoint of an integrator on this machine; `answer` may be changed at any time. `close()` ends it. */
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

/** A way to the service that keeps its address while the service behind it goes and another comes. */
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
