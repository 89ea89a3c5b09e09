// Tests notifications in Firefox end to end: the pages, a push service with Firefox's protocol, and the notifications that
// Firefox shows.
import assert from 'node:assert/strict';

import { firefox, profile } from './lib/firefox.mjs';
import { assertQuiet, click, named, open, shows, signInAs, tab } from './lib/pages.mjs';
import { assign, browsersOf, origin, outcomes, say } from './lib/portal.mjs';
import { pushService } from './lib/push-service.mjs';
import { run, step, until } from './lib/test.mjs';

/** The visible notifications, as the browser reports them. */
const notifications = (page) =>
  page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration('/portal/');
    const shown = await registration.getNotifications();
    return shown.map(({ title, body, tag, data }) => ({ title, body, tag, ...data }));
  });

/** The endpoint of the browser's subscription, or null. */
const subscription = (page) =>
  page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration('/portal/');
    return (await registration.pushManager.getSubscription())?.endpoint ?? null;
  });

/** The subscription that the service worker would renew. */
const remembered = (page) =>
  page.evaluate(async () => {
    const memory = await (await caches.open('flametree-notify')).match('/.flametree-notify/subscription');
    return (await memory.json()).subscription;
  });

/** The timeout, in ms, from the post of an event to its notification. */
const DEADLINE = 2_000;

/** Posts an event, and waits for a notification of the session whose text is this or starts with it. */
async function arrives(page, body, session, post, { isWhole = true } = {}) {
  const from = performance.now();
  await post();
  const isIt = (one) => one.session_id === session && (isWhole ? one.body === body : one.body.startsWith(body));
  const left = DEADLINE - (performance.now() - from);
  const shown = await until(`"${body}" arrives within ${DEADLINE} ms`, async () => (await notifications(page)).find(isIt), left);
  console.log(`          after ${Math.round(performance.now() - from)} ms`);
  return shown;
}

const label = (page, expected) =>
  until(`the button says "${expected}"`, () =>
    page.evaluate((text) => document.querySelector('.page-head button')?.innerText.trim() === text, expected));

await run(async (opening) => {
  const push = opening(await pushService());
  const { directory } = opening(profile());
  const browser = opening(
    await step('Firefox starts', () => firefox({ directory, pushService: push.url, permission: 'prompt' })),
  );
  const page = await tab(browser);

  await step('the dialog subscribes, and the page says so', async () => {
    await signInAs(page, 'ada', 'operator', '?page=profile');
    await page.waitForSelector(named('dialog', 'Enable notifications'));
    // The click opens the browser's permission prompt. This setting answers the prompt.
    await browser.defaultBrowserContext().overridePermissions(origin, ['notifications']);
    await click(page, 'button', 'Allow notifications');
    await shows(page, 'Successfully subscribed to push notifications');
    await label(page, 'Notifications enabled');
    const [own, ...others] = await browsersOf('ada');
    assert.deepEqual([own.host, own.active, others], [new URL(origin).hostname === own.host ? null : own.host, true, []]);
  });

  await step('an assignment and a message arrive with their texts', async () => {
    const assigned = await arrives(page, 'You have new session assigned.', 's-1', () => assign('s-1', 'ada'));
    assert.equal(assigned.title, 'Flametree');
    assert.equal(assigned.url, `${origin}/portal/?session=s-1`);
    for (const text of ['Where is my order? 🧡👩‍👩‍👧', 'איפה ההזמנה שלי? مرحبا', 'Grüße — 你好']) {
      await arrives(page, `New message: ${text}`, 's-1', () => say('s-1', text));
    }
    assert.equal((await notifications(page)).length, 1, 'the newest message of a session replaces the previous one');
  });

  await step('a message of 10,000 characters arrives, cut between characters', async () => {
    const text = '👩‍👩‍👧é'.repeat(1_111).slice(0, 10_000);
    const { body } = await arrives(page, 'New message: 👩', 's-1', () => say('s-1', text), { isWhole: false });
    const said = body.slice('New message: '.length);
    assert(said.endsWith('…') && said.length > 500, `${said.length} characters`);
    const kept = said.slice(0, -1);
    assert(text.startsWith(kept) && Buffer.from(kept).toString() === kept && !/[\u200d\ufe0f]$/u.test(kept), JSON.stringify(said.slice(-12)));
  });

  await step('opening a session in the portal closes its notification', async () => {
    await open(page, '?session=s-1');
    await until('it is closed', async () => (await notifications(page)).length === 0);
  });

  await step('the worker renews a subscription that its push service has lost', async () => {
    const [before] = await browsersOf('ada');
    // No portal page is open, so only the service worker can renew the subscription.
    await page.goto(`${origin}/docs/index.html`);
    push.forgetBrowser();
    const after = await until('the row has the new endpoint', async () => {
      const rows = await browsersOf('ada');
      return rows.length === 1 && rows[0].endpoint_sha256 !== before.endpoint_sha256 ? rows[0] : null;
    });
    assert.equal(after.id, before.id);
    await arrives(page, 'New message: after the renewal', 's-1', () => say('s-1', 'after the renewal'));
  });

  await step('two users who share the browser never get each other\'s notifications', async () => {
    await open(page, '?page=profile');
    await label(page, 'Notifications enabled');
    await click(page, 'button', 'Sign out');
    await page.waitForSelector('input[name=token]');
    assert.deepEqual([await browsersOf('ada'), await notifications(page)], [[], []]);
    await signInAs(page, 'grace', 'operator', '?page=profile');
    await label(page, 'Notifications enabled');
    assert.equal((await assign('s-2', 'ada')).deliveries, 0);
    assert.equal((await say('s-1', 'for ada alone')).deliveries, 0);
    await arrives(page, 'You have new session assigned.', 's-3', () => assign('s-3', 'grace'));
    assert.equal((await notifications(page)).length, 1);
    // A second user signs in although the first user has not signed out. The browser then belongs to the second user.
    await page.evaluate(() => localStorage.removeItem('flametree.token'));
    await signInAs(page, 'heidi', 'operator', '?page=profile');
    await label(page, 'Notifications enabled');
    assert.deepEqual([(await browsersOf('grace')).length, (await browsersOf('heidi')).length], [0, 1]);
    assert.deepEqual(await notifications(page), [], "another user's notification is visible");
  });

  await step("a user who may not subscribe ends another user's subscription in the browser", async () => {
    await arrives(page, 'You have new session assigned.', 's-5', () => assign('s-5', 'heidi'));
    // The first user's token has expired, and another user signs in.
    await page.evaluate(() => localStorage.removeItem('flametree.token'));
    await signInAs(page, 'vera', 'viewer', '?page=profile');
    await until('the subscription has ended', async () => (await subscription(page)) === null);
    assert.deepEqual(await notifications(page), []);
    await label(page, 'Enable notifications');
    assert.equal(await remembered(page), null, 'the subscription would be renewed');
    await until('the push service says that it is gone', async () => {
      await say('s-5', 'for heidi alone');
      return (await outcomes('s-5')).includes('gone');
    });
    assert.deepEqual([await browsersOf('heidi'), await notifications(page)], [[], []]);
    await click(page, 'button', 'Sign out');
    await signInAs(page, 'heidi', 'operator', '?page=profile');
    await label(page, 'Notifications enabled');
  });

  await step('a browser that has unsubscribed is found gone, and removed', async () => {
    await assign('s-4', 'heidi');
    await until('it was delivered', async () => (await outcomes('s-4'))[0] === 'delivered');
    await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.getRegistration('/portal/');
      await (await registration.pushManager.getSubscription()).unsubscribe();
    });
    // Firefox notifies its push service of the unsubscription after a delay.
    await until('the push service says that it is gone', async () => {
      await say('s-4', 'anybody?');
      return (await outcomes('s-4')).includes('gone');
    });
    assert.deepEqual(await browsersOf('heidi'), []);
  });

  assertQuiet(page);
});
