// Tests the service worker in Chromium. DevTools delivers the pushes, and a fake desktop clicks the notifications.
import assert from 'node:assert/strict';

import { chromium, permit, pusher } from './lib/chromium.mjs';
import { desktop } from './lib/desktop.mjs';
import { assertQuiet, signInAs, tab } from './lib/pages.mjs';
import { assign, origin, resolve } from './lib/portal.mjs';
import { run, step, until } from './lib/test.mjs';

const UNREADABLE = 'There is something new for you. Open the portal to see it.';

const notifications = (page) =>
  page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration('/portal/');
    const shown = await registration.getNotifications();
    return shown.map(({ title, body, tag, data }) => ({ title, body, tag, ...data }));
  });

const clear = (page) =>
  page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration('/portal/');
    for (const shown of await registration.getNotifications()) shown.close();
  });

/** The same format as in src/channels/browser_push/payload.rs. */
const message = (session, body, more = {}) =>
  JSON.stringify({
    version: 1,
    kind: 'user_message',
    title: 'Flametree',
    body,
    tag: session,
    url: `/portal/?session=${session}`,
    session_id: session,
    event_id: 'evt_1',
    sent_at: new Date().toISOString(),
    ...more,
  });

await run(async (opening) => {
  const screen = opening(await desktop());
  const { browser } = opening(await step('Chromium starts', () => chromium()));
  await permit(browser, 'granted');
  const page = await tab(browser);
  // A user with this role has no workspace stream, so only clicks close notifications.
  await signInAs(page, 'eve', 'agent_editor', '?page=profile');
  const deliver = await pusher(page, screen);
  const appears = (body) =>
    until(`"${body}" is shown`, async () => (await notifications(page)).find((one) => one.body === body));

  await step('a message is shown as it is written', async () => {
    await deliver(message('s-1', 'New message: Grüße — 你好 😀'));
    const { sent_at: sentAt, ...shown } = await appears('New message: Grüße — 你好 😀');
    assert(sentAt);
    const url = `${origin}/portal/?session=s-1`;
    assert.deepEqual(shown, {
      title: 'Flametree', body: 'New message: Grüße — 你好 😀', tag: 's-1', url, session_id: 's-1',
    });
    await deliver(message('s-1', 'New message: the next'));
    await appears('New message: the next');
    assert.equal((await notifications(page)).length, 1, 'the next message of a session replaces it');
  });

  await step('every push is one notification, whatever it holds', async () => {
    const broken = ['', 'no JSON', '{', 'null', '[]', '7', '{"body":7}', '{"title":"x"}', '\u0000'];
    for (const payload of broken) {
      await clear(page);
      await deliver(payload);
      await appears(UNREADABLE);
      assert.equal((await notifications(page)).length, 1, payload);
    }
    const odd = [{ tag: null }, { title: '' }, { url: 'https://elsewhere.example/' }, { url: 'javascript:alert(1)' }, { sent_at: 'x' }];
    for (const more of odd) {
      await clear(page);
      await deliver(message('s-1', 'New message: odd', { session_id: null, ...more }));
      const { url } = await appears('New message: odd');
      assert((await notifications(page)).length === 1 && url.startsWith(`${origin}/portal/`), JSON.stringify(more));
    }
    await clear(page);
  });

  await step('a click shows the session in the open portal tab, even in the background', async () => {
    const other = await browser.newPage();
    await other.goto(`${origin}/docs/index.html`);
    await other.bringToFront();
    await deliver(message('s-7', 'New message: click me'));
    await screen.click('New message: click me');
    await until('the session is shown', () => page.url() === `${origin}/portal/?session=s-7`);
    await until('its tab is in front', () => page.evaluate(() => document.hasFocus()));
    await until('the notification is closed', async () => (await notifications(page)).length === 0);
    assert.equal(other.url(), `${origin}/docs/index.html`, 'a tab that is not the portal stays as it is');
    await other.close();
  });

  await step('a click with no portal tab open opens one at the session', async () => {
    const other = await browser.newPage();
    await other.goto(`${origin}/docs/index.html`);
    const bring = await pusher(other, screen);
    assertQuiet(page);
    await page.close();
    await bring(message('s 8/ü', 'New message: open me', { url: '/portal/?session=s+8%2F%C3%BC' }));
    await screen.click('New message: open me');
    const target = await browser.waitForTarget((one) => one.url() === `${origin}/portal/?session=s+8%2F%C3%BC`);
    assert.equal(target.type(), 'page');
    await other.close();
  });

  await step('the notifications of a resolved session close', async () => {
    const operator = await tab(browser);
    await operator.goto(`${origin}/docs/index.html`);
    await operator.evaluate(() => localStorage.clear());
    await signInAs(operator, 'otto', 'operator', '?page=human-agents');
    await assign('s-9', 'otto');
    await assign('s-10', 'otto');
    // The page queries notifications when the list appears. Chromium would lose a push that arrives before this query,
    // so the test waits for the list.
    const isListed = () => ['s-9 ', 's-10 '].every((id) => document.querySelector('main').innerText.replace(/\s+/g, ' ').includes(id));
    await operator.waitForFunction(isListed);
    await notifications(operator);
    const bring = await pusher(operator, screen);
    await bring(message('s-9', 'New message: soon done'));
    await bring(message('s-10', 'New message: still open'));
    await until('both are shown', async () => (await notifications(operator)).length === 2);
    await resolve('s-9');
    await until('one is left', async () => (await notifications(operator)).map(({ tag }) => tag).join() === 's-10');
    assertQuiet(operator);
  });
});
