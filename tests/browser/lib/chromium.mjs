// Debian's Chromium without a window, and what only DevTools can do: permissions, and pushes without a push service.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { puppeteer } from './modules.mjs';
import { origin } from './portal.mjs';
import { until } from './test.mjs';

// As root there is no sandbox; the pages are our own.
const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--lang=en-US'];

/** A browser with a profile of its own. `close()` ends it and removes the profile. */
export async function chromium({ args = [], viewport = { width: 1280, height: 800 } } = {}) {
  const userDataDir = fs.mkdtempSync(path.join(os.tmpdir(), 'flametree-chromium-'));
  const browser = await puppeteer.launch({
    executablePath: '/usr/bin/chromium',
    headless: true,
    protocolTimeout: 30_000,
    userDataDir,
    defaultViewport: viewport,
    args: [...ARGUMENTS, ...args],
    env: { ...process.env, TZ: 'UTC', LANG: 'en_US.UTF-8', LANGUAGE: 'en_US' },
  });
  const close = async () => {
    await browser.close();
    fs.rmSync(userDataDir, { recursive: true, force: true });
  };
  return { browser, close };
}

/** What was answered is forgotten with the session of DevTools that has answered it. */
const sessions = new WeakMap();

/** Answers the browser's question for notifications before it is asked: 'granted', 'denied' or 'prompt'. */
export async function permit(browser, setting) {
  if (!sessions.has(browser)) sessions.set(browser, await browser.target().createCDPSession());
  const permission = { name: 'notifications' };
  await sessions.get(browser).send('Browser.setPermission', { origin, permission, setting });
}

/**
 * Brings pushes to the service worker of the portal as a push service would: `await deliver(text)`, which waits for the
 * desktop. A page that asks before that which notifications there are makes Chromium forget the new one, for it keeps only
 * those that the desktop has.
 */
export async function pusher(page, screen, scope = `${origin}/portal/`) {
  const session = await page.createCDPSession();
  const known = new Map();
  session.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
    for (const registration of registrations) known.set(registration.scopeURL, registration.registrationId);
  });
  await session.send('ServiceWorker.enable');
  await until(`there is a service worker for ${scope}`, () => known.has(scope));
  // What comes before it is active is lost.
  const active = async (of) => (await navigator.serviceWorker.getRegistration(of))?.active?.state === 'activated';
  await until(`the service worker for ${scope} is active`, () => page.evaluate(active, scope));
  return async (data) => {
    const before = screen.times();
    await session.send('ServiceWorker.deliverPushMessage', { origin, registrationId: known.get(scope), data });
    await until('the desktop is told of the push', () => screen.times() > before);
  };
}
