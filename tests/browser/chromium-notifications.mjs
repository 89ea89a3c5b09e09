// Tests how the pages offer notifications: the dialog, the button on the Profile page, and users without notifications.
import assert from 'node:assert/strict';

import { chromium, permit } from './lib/chromium.mjs';
import {
  allowWhenAsked,
  assertQuiet,
  click,
  hasten,
  menu,
  named,
  open,
  pretendPushService,
  shows,
  signInAs,
  tab,
} from './lib/pages.mjs';
import { browsersOf, token } from './lib/portal.mjs';
import { ask, env, run, step, until } from './lib/test.mjs';

const PUSH = `http://${env('PUSH_ADDRESS')}:8182/wpush`;
const PROFILE = '?page=profile';

const label = (page) => page.$eval('.page-head button', (button) => button.innerText.trim());
const isDisabled = (page) => page.$eval('.page-head button', (button) => button.disabled);
const labelled = (page, expected) => until(`the button says "${expected}"`, async () => (await label(page)) === expected);
const dialog = (page) => page.$(named('dialog', 'Enable notifications'));
/** The client module has checked the state, so that a dialog would be visible by now. */
const settled = (page) => page.waitForFunction(() => document.querySelector('.page-head button')?.disabled === false);

await run(async (opening) => {
  const { browser } = opening(await chromium());
  const page = await tab(browser);

  await step('the dialog appears at sign-in, and never again after it was closed', async () => {
    await permit(browser, 'prompt');
    await signInAs(page, 'ada', 'admin');
    await page.waitForSelector(named('dialog', 'Enable notifications'));
    await page.waitForSelector(named('button', 'Allow notifications'));
    await page.keyboard.press('Escape');
    await until('the dialog is closed', async () => (await dialog(page)) === null);
    for (const again of [() => page.reload(), () => open(page, PROFILE)]) {
      await again();
      await page.waitForSelector('nav[aria-label=Portal]');
    }
    await settled(page);
    assert.equal(await dialog(page), null);
    // The user leaves the page during the sign-out. The token must already be deleted.
    await click(page, 'button', 'Sign out');
    await signInAs(page, 'other', 'operator', PROFILE);
    await settled(page);
    assert.equal(await dialog(page), null, 'the dialog appears for the next user in this browser');
    assert.equal(await label(page), 'Enable notifications');
  });

  await step('after a failure no dialog appears, and the page shows what failed', async () => {
    await permit(browser, 'prompt');
    const fresh = await tab(await browser.createBrowserContext());
    await fresh.setRequestInterception(true);
    fresh.on('request', (request) => {
      if (!request.url().endsWith('vapid-public-key')) return request.continue();
      return request.respond({ status: 503, contentType: 'application/problem+json', body: '{"title":"Not now"}' });
    });
    await signInAs(fresh, 'ada', 'admin', PROFILE);
    await shows(fresh, 'Not now');
    assert.equal(await dialog(fresh), null);
    assertQuiet(fresh, /503/);
    await fresh.browserContext().close();
  });

  await step('a browser that blocks notifications says so, and gets no dialog', async () => {
    await permit(browser, 'denied');
    await labelled(page, 'Notifications blocked');
    assert(await isDisabled(page));
    await shows(page, "Allow them in the browser's site settings");
    const fresh = await tab(await browser.createBrowserContext());
    await fresh.evaluateOnNewDocument(() => Object.defineProperty(Notification, 'permission', { get: () => 'denied' }));
    await signInAs(fresh, 'ada', 'admin', PROFILE);
    await labelled(fresh, 'Notifications blocked');
    assert.equal(await dialog(fresh), null);
    assertQuiet(fresh);
    await fresh.browserContext().close();
  });

  await step('an unresponsive push service times out, and the page says so', async () => {
    await permit(browser, 'granted');
    const waiting = await tab(browser);
    await hasten(waiting, 15_000);
    await open(waiting, PROFILE);
    await shows(
      waiting,
      "The browser's push service did not respond within 15 seconds. Check the connection, then try again.",
    );
    assert.equal(await label(waiting), 'Enable notifications');
    await click(waiting, 'button', 'Enable notifications');
    await waiting.waitForSelector('.page-head button:not([aria-busy])');
    await shows(waiting, 'did not respond within 15 seconds');
    assertQuiet(waiting);
    await waiting.close();
  });

  await step('the button subscribes and confirms it', async () => {
    await permit(browser, 'prompt');
    const context = await browser.createBrowserContext();
    const own = await tab(context);
    await own.evaluateOnNewDocument(() => localStorage.setItem('flametree.notifications-dialog-closed', 'yes'));
    await pretendPushService(own, PUSH);
    await allowWhenAsked(own);
    await signInAs(own, 'grace', 'operator', PROFILE);
    await settled(own);
    await click(own, 'button', 'Enable notifications');
    await shows(own, 'Successfully subscribed to push notifications');
    await labelled(own, 'Notifications enabled');
    assert.equal((await browsersOf('grace')).length, 1);
    await shows(own, 'This browser');
    await click(own, 'button', 'Turn off here');
    await labelled(own, 'Enable notifications');
    assert.equal((await browsersOf('grace')).length, 0);
    assertQuiet(own);
    await context.close();
  });

  await step('the dialog subscribes and confirms it', async () => {
    const context = await browser.createBrowserContext();
    const own = await tab(context);
    await pretendPushService(own, PUSH);
    await allowWhenAsked(own);
    await signInAs(own, 'heidi', 'operator', PROFILE);
    await own.waitForSelector(named('dialog', 'Enable notifications'));
    await click(own, 'button', 'Allow notifications');
    await shows(own, 'Successfully subscribed to push notifications');
    await until('the dialog is closed', async () => (await dialog(own)) === null);
    await labelled(own, 'Notifications enabled');
    await click(own, 'button', 'Sign out');
    await own.waitForSelector('input[name=token]');
    assert.equal((await browsersOf('heidi')).length, 0, 'signing out removes the browser');
    assertQuiet(own);
    await context.close();
  });

  await step('a phone that needs the portal on its Home Screen first says so', async () => {
    for (const [agent, points, words] of [
      ['Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Version/18.5 Mobile Safari/604.1', 5, 'to the Home Screen'],
      ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.5 Safari/605.1.15', 5, 'to the Home Screen'],
      ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/18.5 Safari/605.1.15', 0, 'This browser cannot receive'],
    ]) {
      const phone = await tab(await browser.createBrowserContext());
      await phone.setUserAgent({ userAgent: agent });
      await phone.evaluateOnNewDocument((maxTouchPoints) => {
        Object.defineProperty(Navigator.prototype, 'maxTouchPoints', { get: () => maxTouchPoints });
        delete window.PushManager;
        delete window.Notification;
      }, points);
      await signInAs(phone, 'ada', 'operator', PROFILE);
      await shows(phone, words);
      assert(await isDisabled(phone));
      assert.equal(await dialog(phone), null);
      assertQuiet(phone);
      await phone.browserContext().close();
    }
  });

  await step('the portal can be installed as an app', async () => {
    const devtools = await page.createCDPSession();
    const { errors, url } = await devtools.send('Page.getAppManifest');
    assert.deepEqual([errors, new URL(url).pathname], [[], '/portal/app.webmanifest']);
    const { installabilityErrors } = await devtools.send('Page.getInstallabilityErrors');
    assert.deepEqual(installabilityErrors, []);
  });

  await step('a role that may not change its profile sees the button disabled', async () => {
    const context = await browser.createBrowserContext();
    const viewer = await tab(context);
    await signInAs(viewer, 'vera', 'viewer', PROFILE);
    await shows(viewer, 'Your role does not allow changing this setting.');
    assert.equal(await label(viewer), 'Enable notifications');
    assert(await isDisabled(viewer));
    assert.equal(await dialog(viewer), null);
    assert.deepEqual(await menu(viewer), ['Agents', 'Profile']);
    assertQuiet(viewer);
    await context.close();
  });

  await step('without browser push there is no button', async () => {
    const without = await ask('without push');
    const context = await browser.createBrowserContext();
    const plain = await tab(context);
    await plain.goto(`http://${without}/portal/${PROFILE}`);
    await (await plain.waitForSelector('input[name=token]')).type(token('ada', 'admin'));
    await click(plain, 'button', 'Sign in');
    await shows(plain, 'Your sign-in expires');
    assert.equal(await plain.$('.page-head button'), null);
    assert.equal(await dialog(plain), null);
    assertQuiet(plain);
    await context.close();
  });

  assertQuiet(page);
});
