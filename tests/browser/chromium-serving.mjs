// That Chromium takes the portal's page, its module and its service worker as they are served.
import assert from 'node:assert/strict';

import { chromium } from './lib/chromium.mjs';
import { origin, token } from './lib/portal.mjs';
import { run, step } from './lib/test.mjs';

await run(async (open) => {
  const { browser } = open(await step('Chromium starts', () => chromium()));
  const page = await browser.newPage();
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  await step('the page loads', async () => {
    assert.equal((await page.goto(`${origin}/`)).status(), 200);
    assert.equal(page.url(), `${origin}/portal/`);
  });
  await step('the client module starts its service worker', async () => {
    const started = await page.evaluate(async (bearer) => {
      const { NotificationsClient } = await import('/portal/notifications.js');
      const client = new NotificationsClient({ token: () => bearer });
      return [await client.start(), (await navigator.serviceWorker.ready).scope];
    }, token('user-7'));
    assert.deepEqual(started, ['not_enabled', `${origin}/portal/`]);
  });
  assert.deepEqual(complaints, []);
});
