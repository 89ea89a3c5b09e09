// Tests the page of an agent: saving in two steps, faults next to the fields that cause them, endpoint tests, and live
// deliveries.
import assert from 'node:assert/strict';

import { chromium } from './lib/chromium.mjs';
import { assertQuiet, click, endpoint, named, open, shows, signInAs, text, tab, type } from './lib/pages.mjs';
import { api, post, say, token } from './lib/portal.mjs';
import { run, step, until } from './lib/test.mjs';

const ADMIN = token('ada', 'admin');
const SET = 'Set push notification configuration';
const WINDOW = named('dialog', 'Push Notification Configuration');
const config = () => api('GET', 'agents/agent-1/push-config', ADMIN);

const openWindow = async (page) => {
  await click(page, 'button', SET);
  await page.waitForSelector(WINDOW);
};
/** The `Save` of the dialog, not that of the page behind it. */
const saveWindow = (page) => page.locator('dialog button[type=submit]').click();
const isClosed = (page) => until('the window is closed', async () => (await page.$(WINDOW)) === null);
const saveButton = (page) => page.$('.page-head .button.primary');
const savePage = async (page) => {
  const button = await saveButton(page);
  await button.click();
  // The confirmation of an earlier save may still be visible.
  await until('the page is saved', () => button.evaluate((shown) => shown.disabled));
  await shows(page, 'Saved');
};
/** The fault shown next to a field, by its name. */
const fault = (page, name) =>
  page.$eval(named('textbox', name), (input) => {
    const places = input
      .getAttribute('aria-describedby')
      .split(' ')
      .map((id) => document.getElementById(id));
    return input.getAttribute('aria-invalid') === 'true'
      ? places
          .map((place) => place.innerText)
          .join('')
          .trim()
      : null;
  });
const faulty = (page, name, words) =>
  until(`"${words}" stands at ${name}`, async () => (await fault(page, name))?.includes(words));
const rows = (page) => page.$$eval('.deliveries tbody tr', (all) => all.map((row) => row.innerText.replace(/\s+/g, ' ')));

await run(async (opening) => {
  const { browser } = opening(await chromium());
  const hook = opening(await endpoint());
  const page = await tab(browser);
  await page.evaluateOnNewDocument(() => localStorage.setItem('flametree.notifications-dialog-closed', 'yes'));
  await signInAs(page, 'ada', 'admin', '?page=agents');

  await step('a user opens an agent without settings by its ID', async () => {
    await type(page, 'Open an agent by its ID', 'agent-1');
    await click(page, 'button', 'Open');
    await shows(page, 'No deliveries yet');
  });

  await step('the card is visible only in Advanced mode', async () => {
    await page.waitForSelector(named('switch', 'Advanced mode'));
    assert.equal(await page.$(named('button', SET)), null);
    await click(page, 'switch', 'Advanced mode');
    await page.waitForSelector(named('heading', 'Advanced'));
    await shows(page, 'Not set');
  });

  await step('each fault is shown next to its field', async () => {
    await openWindow(page);
    await saveWindow(page);
    await faulty(page, 'URL', 'Enter the URL of your endpoint');
    await shows(page, 'Select at least one event');
    assert.equal(await page.evaluate(() => document.activeElement.type), 'url', 'the focus is at the first fault');
    await type(page, 'URL', 'example.com/webhook');
    await click(page, 'button', 'Add Header');
    await saveWindow(page);
    await faulty(page, 'URL', 'Enter a complete URL');
    await faulty(page, 'Name', 'Enter a name');
    await faulty(page, 'Value', 'Enter a value');
    await type(page, 'Name', 'Authorization');
    const secret = await page.$(named('checkbox', 'Secret'));
    assert.deepEqual(await secret.evaluate((box) => [box.checked, box.disabled]), [true, true], 'a credential is a secret');
    assert.equal(await page.$eval(named('textbox', 'Value'), (input) => input.type), 'password');
    await type(page, 'Value', 'Bearer s3cret');
    await type(page, 'URL', hook.url());
    for (const event of ['New Session Started', 'AI Assistant Message', 'User Message', 'Transferred to Live Agent']) {
      await click(page, 'checkbox', event);
    }
    await saveWindow(page);
    await isClosed(page);
  });

  await step('settings apply only after the page is saved too', async () => {
    await shows(page, 'Not saved yet');
    assert.equal((await config()).url, null);
    await post('user_message', 's-0', { text: 'too early' });
    assert.equal((await api('GET', 'deliveries?session_id=s-0', ADMIN)).data.length, 0);
  });

  await step('the skip link leads to the content and then disappears', async () => {
    await page.focus('a.skip');
    await page.keyboard.press('Enter');
    await until('the content has the focus', () => page.evaluate(() => document.activeElement.id === 'content'));
    assert(page.url().endsWith('?agent=agent-1'), page.url());
    assert.equal(await page.$('dialog'), null);
  });

  await step('leaving with unsaved changes warns', async () => {
    await click(page, 'link', 'Profile');
    await page.waitForSelector(named('dialog', 'Leave without saving?'));
    await click(page, 'button', 'Stay on this page');
    // The dialog sends an event when it closes. The page cannot show another dialog before this event.
    const inFront = () => until('the page is in front again', async () => (await page.$('dialog')) === null);
    await inFront();
    assert.equal(await text(page, 'h1'), 'agent-1');
    await page.evaluate(() => history.back());
    await page.waitForSelector(named('dialog', 'Leave without saving?'));
    await page.keyboard.press('Escape');
    await inFront();
    assert(page.url().endsWith('?agent=agent-1'));
    const asked = new Promise((resolve) => page.once('dialog', (dialog) => resolve(dialog.type()) || dialog.dismiss()));
    await page.evaluate(() => setTimeout(() => location.reload()));
    assert.equal(await asked, 'beforeunload');
    await shows(page, 'Not saved yet');
  });

  await step('the second Save applies the settings, and shows the signing secret once', async () => {
    await savePage(page);
    await shows(page, 'Signing secret');
    assert.match(await page.$eval(named('textbox', 'Signing secret'), (input) => input.value), /^whsec_/);
    const saved = await config();
    assert.deepEqual([saved.enabled, saved.url, saved.events.length], [true, hook.url(), 4]);
    assert.deepEqual(saved.headers, [{ name: 'Authorization', secret: true, value: null, value_set: true }]);
    assert.equal(await (await saveButton(page)).evaluate((button) => button.disabled), true);
    await say('s-1', 'Where is my <b>order</b>?');
    await until('the endpoint receives it', () => hook.received.length === 1);
    assert.equal(hook.received[0].headers.authorization, 'Bearer s3cret');
  });

  await step('no dialog outlives its page, and leaving one with changes asks for confirmation', async () => {
    const noWindow = () => until('no window is open', async () => (await page.$('dialog')) === null);
    const again = async () => {
      await page.evaluate(() => history.forward());
      await shows(page, 'Recent deliveries');
      await openWindow(page);
    };
    await openWindow(page);
    await page.evaluate(() => history.back());
    await shows(page, 'Open an agent by its ID');
    await noWindow();
    await again();
    await type(page, 'URL', 'https://example.com/elsewhere');
    for (let times = 0; times < 2; times += 1) await page.evaluate(() => history.back());
    await click(page, 'button', 'Stay on this page');
    await until('the window is in front again', async () => (await page.$$('dialog')).length === 1);
    assert.equal(await page.$eval(named('textbox', 'URL'), (input) => input.value), 'https://example.com/elsewhere');
    await page.evaluate(() => history.back());
    await click(page, 'button', 'Leave without saving');
    await shows(page, 'Open an agent by its ID');
    await noWindow();
    await again();
    // After this point, the test answers every API request of the page with 401.
    await page.setRequestInterception(true);
    const refuse = (request) =>
      request.url().includes('/v1/') ? request.respond({ status: 401, contentType: 'application/json', body: '{}' }) : request.continue();
    page.on('request', refuse);
    await shows(page, 'You were signed out');
    await noWindow();
    page.off('request', refuse);
    await page.setRequestInterception(false);
    page.complaints = page.complaints.filter((complaint) => !complaint.includes('401'));
    await signInAs(page, 'ada', 'admin', '?agent=agent-1');
  });

  await step('a delivery appears automatically, and can be viewed and replayed', async () => {
    await until('the delivery is listed', async () => (await rows(page))[0]?.startsWith('User Message s-1 Delivered 200'));
    await click(page, 'button', 'User Message');
    await shows(page, '"text":"Where is my <b>order</b>?"');
    await shows(page, 'Authorization');
    assert.equal(await page.$('dialog pre b'), null, 'texts are not interpreted as HTML');
    await page.keyboard.press('Escape');
    // The service gets the first replay request, but the response is lost.
    const keys = [];
    const loseFirst = async (request) => {
      if (!request.url().endsWith('/replay')) return request.continue();
      const { authorization, 'idempotency-key': key } = request.headers();
      keys.push(key);
      if (keys.length > 1) return request.continue();
      await fetch(request.url(), { method: 'POST', headers: { authorization, 'idempotency-key': key } });
      return request.abort();
    };
    await page.setRequestInterception(true);
    page.on('request', loseFirst);
    await click(page, 'button', 'Replay User Message');
    await shows(page, 'The service cannot be reached');
    await until('the endpoint receives another', () => hook.received.length === 2);
    await click(page, 'button', 'Replay User Message');
    await shows(page, 'Replayed');
    page.off('request', loseFirst);
    await page.setRequestInterception(false);
    page.complaints = page.complaints.filter((complaint) => !complaint.includes('ERR_FAILED'));
    assert(keys.length === 2 && keys[0] === keys[1] && keys[0].length === 32, `${keys}`);
    assert.equal(hook.received.length, 2, 'the second request created no other delivery');
    assert.equal(hook.received[1].headers['webhook-id'], hook.received[0].headers['webhook-id']);
    await page.mouse.move(5, 5);
    await page.evaluate(() => document.activeElement.blur());
    await until('the second delivery is listed', async () => (await rows(page)).length === 2);
  });

  await step('new deliveries wait while a row has the focus, and nothing moves', async () => {
    const held = await page.waitForSelector(named('button', 'User Message'));
    await held.focus();
    await post('transferred_to_live_agent', 's-1');
    const news = await page.waitForSelector(named('button', 'Show 1 new'));
    assert.equal((await rows(page)).length, 2);
    await news.click();
    await until('the delivery is shown', async () => (await rows(page))[0]?.startsWith('Transferred to Live Agent'));
  });

  await step('a saved secret shows as set, and stays', async () => {
    await page.reload();
    await openWindow(page);
    await shows(page, 'Set');
    assert.equal(await page.$eval(named('textbox', 'Value Set'), (input) => input.value), '');
    await click(page, 'button', 'Add Header');
    const names = await page.$$(named('textbox', 'Name'));
    await names[1].type('X-Env');
    const values = await page.$$('.header-row input[maxlength="4096"]');
    await values[1].type('prod');
    await saveWindow(page);
    await isClosed(page);
    await savePage(page);
    await say('s-2', 'once more');
    await until('the endpoint receives it', () => hook.received.length === 4);
    const { headers } = hook.received[3];
    assert.deepEqual([headers.authorization, headers['x-env']], ['Bearer s3cret', 'prod']);
  });

  await step('another origin requires the secret again', async () => {
    const other = opening(await endpoint());
    await openWindow(page);
    await type(page, 'URL', other.url());
    await shows(page, 'Enter this secret again: the URL has another origin');
    await saveWindow(page);
    await page.waitForSelector(`${WINDOW} [aria-invalid=true]`);
    await (await page.$('.header-row input[type=password]')).type('Bearer new');
    await saveWindow(page);
    await isClosed(page);
    await savePage(page);
    await say('s-3', 'to the new one');
    await until('the new endpoint receives it', () => other.received.length === 1);
    assert.equal(other.received[0].headers.authorization, 'Bearer new');
    assert.equal(hook.received.length, 4);
  });

  await step('faults that only the service finds are shown next to their fields too', async () => {
    await openWindow(page);
    const names = await page.$$(named('textbox', 'Name'));
    await names[1].evaluate((input) => input.select());
    await names[1].type('X-Forwarded-For');
    await saveWindow(page);
    await isClosed(page);
    await (await saveButton(page)).click();
    await page.waitForSelector(WINDOW);
    await shows(page, 'Is a header that the service or the connection sets itself.');
    await page.keyboard.press('Escape');
    assert.equal((await config()).headers[1].name, 'X-Env');
    page.once('dialog', (dialog) => dialog.accept());
    await page.reload();
  });

  await step('a test shows the response of the endpoint, its steps and their meaning', async () => {
    await openWindow(page);
    await type(page, 'URL', hook.url('/elsewhere'));
    await page.locator('.header-row input[type=password]').fill('Bearer s3cret');
    await saveWindow(page);
    await isClosed(page);
    hook.answer = { status: 503, headers: { 'content-type': 'text/html' }, body: '<img src=x onerror=alert(1)> busy' };
    await click(page, 'button', 'Send test');
    await shows(page, 'Refused Status 503 in');
    await shows(page, '<img src=x onerror=alert(1)> busy');
    assert.equal(await page.$('.test-result img'), null);
    for (const part of ['DNS lookup', 'Connection', 'TLS', 'Response of the endpoint', 'Sent request', 'curl command']) {
      await shows(page, part);
    }
    const { url, body } = hook.received.at(-1);
    assert.deepEqual([url, body.test], ['/elsewhere', true], 'the test uses the unsaved draft');
    assert.equal((await config()).url.endsWith('/elsewhere'), false);
    hook.close();
    await click(page, 'button', 'Send test');
    await shows(page, 'Not reachable');
  });

  await step("saving does not overwrite another user's change", async () => {
    const body = { ...(await config()), enabled: false };
    for (const readOnly of ['warnings', 'disabled_reason']) delete body[readOnly];
    await api('PUT', 'agents/agent-1/push-config', ADMIN, body);
    await (await saveButton(page)).click();
    await shows(page, 'Another user has changed this configuration');
    await click(page, 'button', 'Load the other version');
    await shows(page, 'Paused');
  });

  await step('a viewer sees the settings but cannot change them', async () => {
    const context = await browser.createBrowserContext();
    const viewer = await tab(context);
    await signInAs(viewer, 'vera', 'viewer', '?agent=agent-1');
    await click(viewer, 'switch', 'Advanced mode');
    await openWindow(viewer);
    const disabled = await viewer.$$eval('dialog fieldset input', (inputs) =>
      inputs.every((input) => input.matches(':disabled')),
    );
    assert(disabled);
    assert.equal(await viewer.$('dialog button[type=submit]'), null);
    await viewer.keyboard.press('Escape');
    assert.equal(await saveButton(viewer), null);
    for (const name of ['Send test', 'Replay User Message']) assert.equal(await viewer.$(named('button', name)), null, name);
    await until('deliveries are listed', async () => (await rows(viewer)).length > 2);
    assertQuiet(viewer);
    await context.close();
  });

  await open(page, '?page=agents');
  await shows(page, 'agent-1');
  // The responses 412 and 422 are expected.
  assertQuiet(page, /412/, /422/);
});
