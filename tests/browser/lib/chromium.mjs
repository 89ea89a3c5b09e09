// Debian's headless Chromium, and DevTools actions that set permissions and deliver pushes without a push service.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { puppeteer } from './modules.mjs';
import { origin } from './portal.mjs';
import { until } from './test.mjs';

// Chromium cannot use its sandbox if root runs the browser. The tests do not need the sandbox, because the pages are trusted.
const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--lang=en-US'];

/** A browser with a new profile. `close()` stops it and removes the profile. */
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

/** Permissions are lost when the DevTools session that set them closes. */
const sessions = new WeakMap();

/** Sets the permission for notifications in advance: 'granted', 'denied' or 'prompt'. */
export async function permit(browser, setting) {
  if (!sessions.has(browser)) sessions.set(browser, await browser.target().createCDPSession());
  const permission = { name: 'notifications' };
  await sessions.get(browser).send('Browser.setPermission', { origin, permission, setting });
}

/**
 * Returns a function that delivers a push to the portal's service worker as a push service would. The function waits until the
 * desktop shows the notification, because an earlier query for notifications would make Chromium forget the new notification.
 */
export async function pusher(page, screen, scope = `${origin}/portal/`) {
  const session = await page.createCDPSession();
  const known = new Map();
  session.on('ServiceWorker.workerRegistrationUpdated', ({ registrations }) => {
    for (const registration of registrations) known.set(registration.scopeURL, registration.registrationId);
  });
  await session.send('ServiceWorker.enable');
  await until(`there is a service worker for ${scope}`, () => known.has(scope));
  // Chromium loses pushes that arrive before the service worker is active.
  const active = async (of) => (await navigator.serviceWorker.getRegistration(of))?.active?.state === 'activated';
  await until(`the service worker for ${scope} is active`, () => page.evaluate(active, scope));
  return async (data) => {
    const before = screen.times();
    await session.send('ServiceWorker.deliverPushMessage', { origin, registrationId: known.get(scope), data });
    await until('the desktop shows the push', () => screen.times() > before);
  };
}
