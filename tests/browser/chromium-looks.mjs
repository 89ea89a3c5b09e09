// Checks every page in every state with axe, in light and dark mode and on a phone. Saves pictures in target/portal/.
import assert from 'node:assert/strict';
import fs from 'node:fs';

import { chromium } from './lib/chromium.mjs';
import { axe } from './lib/modules.mjs';
import { click, endpoint, named, open, pretendPushService, shows, signInAs, tab, type } from './lib/pages.mjs';
import { api, assign, origin, post, say, token, transfer } from './lib/portal.mjs';
import { env, run, step, until } from './lib/test.mjs';

const PICTURES = new URL('../../target/portal/', import.meta.url);
const ADMIN = token('ada', 'admin');
const PUSH = `http://${env('PUSH_ADDRESS')}:8182/wpush`;
const DESKTOP = { width: 1280, height: 800 };
/** Without touch, which would reload the page. */
const PHONE = { width: 390, height: 844 };
const SET = 'Set push notification configuration';
const EVENTS = ['new_session_started', 'ai_assistant_message', 'user_message', 'transferred_to_live_agent'];

const faults = [];

/** Collects the violations that axe finds, of any impact. */
async function check(page, name) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  for (const { id, impact, nodes } of violations) {
    faults.push(`${name}: ${id} (${impact}): ${nodes.map(({ target }) => target.join(' ')).join(', ')}`);
  }
}

/** Titles of rows without enough width. */
const squeezed = () =>
  [...document.querySelectorAll('.row .title')]
    .filter((title) => title.getClientRects().length > 0)
    .filter((title) => title.clientHeight > 2.5 * Number.parseFloat(getComputedStyle(title).lineHeight))
    .map((title) => title.textContent);

/** The current page in each mode. */
async function look(page, name) {
  for (const [kind, scheme, viewport] of [
    ['light', 'light', DESKTOP],
    ['dark', 'dark', DESKTOP],
    ['phone', 'light', PHONE],
  ]) {
    await page.setViewport(viewport);
    await page.emulateMediaFeatures([
      { name: 'prefers-color-scheme', value: scheme },
      { name: 'prefers-reduced-motion', value: 'reduce' },
    ]);
    await page.screenshot({ path: new URL(`${name}-${kind}.png`, PICTURES).pathname });
    await check(page, `${name}, ${kind}`);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    if (overflow) faults.push(`${name}, ${kind}: wider than the screen`);
    for (const title of await page.evaluate(squeezed)) faults.push(`${name}, ${kind}: no room for "${title}"`);
  }
  await page.setViewport(DESKTOP);
}

async function configure(agent, url, more = {}) {
  const headers = [
    { name: 'Authorization', value: 'Bearer s3cret', secret: true },
    { name: 'X-Env', value: 'prod', secret: false },
  ];
  await api('PUT', `agents/${agent}/push-config`, ADMIN, { enabled: true, url, headers, events: EVENTS, ...more });
}

/** The sessions of a working day. */
async function workday() {
  const session = 's-order-48213';
  const of = { agent_id: 'shop-assistant' };
  await post('new_session_started', session, of);
  await post('user_message', session, { ...of, text: 'Where is my order? It was supposed to arrive on Friday 😟' });
  await post('ai_assistant_message', session, {
    ...of,
    text: "I'm sorry about the wait!\n\nCould you give me the order number?",
  });
  await post('user_message', session, { ...of, text: 'مرحبًا، رقم الطلب HP-48213' });
  await post('transferred_to_live_agent', session, of);
  await transfer('s-trip-1180');
  await assign('s-appt-5520', 'ada');
  await assign('s-size-7741', 'jonas');
  await say('s-size-7741', 'hello');
}

await run(async (opening) => {
  fs.rmSync(PICTURES, { recursive: true, force: true });
  fs.mkdirSync(PICTURES, { recursive: true });
  const { browser } = opening(await chromium());
  const hook = opening(await endpoint());
  const page = await tab(browser);

  await step('signing in', async () => {
    await page.goto(`${origin}/portal/`);
    await page.waitForSelector('input[name=token]');
    await look(page, 'sign-in');
    await page.type('input[name=token]', 'wrong');
    await click(page, 'button', 'Sign in');
    await shows(page, 'unknown, expired or revoked');
    await look(page, 'sign-in-refused');
    await signInAs(page, 'ada', 'admin');
    await page.waitForSelector(named('dialog', 'Enable notifications'));
    await shows(page, 'No conversations are waiting');
    await look(page, 'enable-notifications');
    await page.keyboard.press('Escape');
    await look(page, 'human-agents-empty');
    await open(page, '?page=agents');
    await shows(page, 'No agent sends push notifications yet');
    await look(page, 'agents-empty');
    await open(page, '?agent=new-agent');
    await shows(page, 'No deliveries yet');
    await look(page, 'agent-new');
  });

  await step('a working day', async () => {
    await configure('shop-assistant', hook.url());
    await configure('clinic-desk', hook.url(), { enabled: false });
    await configure('travel-concierge', hook.url('/travel'), { events: ['user_message'] });
    await workday();
    hook.answer = { status: 500, headers: { 'content-type': 'application/json' }, body: '{"error":"out of order"}' };
    await post('user_message', 's-order-48213', { agent_id: 'shop-assistant', text: 'Are you still there?' });
    await open(page, '?page=human-agents');
    await shows(page, '4 active conversations');
    await look(page, 'human-agents');
    await open(page, '?page=agents');
    await shows(page, 'travel-concierge');
    await look(page, 'agents');
    await open(page, '?session=s-order-48213');
    await shows(page, 'Are you still there?');
    await look(page, 'session');
  });

  await step('an agent', async () => {
    await open(page, '?agent=shop-assistant');
    await shows(page, 'Refused 500');
    await look(page, 'agent');
    await click(page, 'button', 'User Message');
    await shows(page, 'out of order');
    await look(page, 'delivery');
    await page.keyboard.press('Escape');
    await click(page, 'switch', 'Advanced mode');
    await look(page, 'agent-advanced');
    await click(page, 'button', 'Send test');
    await shows(page, 'Status 500 in');
    await look(page, 'agent-tested');
    await click(page, 'button', SET);
    await page.waitForSelector('dialog[open] .header-row');
    await look(page, 'push-config');
    await type(page, 'URL', 'https://elsewhere.example/webhook');
    await click(page, 'button', 'Add Header');
    await page.locator('dialog button[type=submit]').click();
    await shows(page, 'Enter this secret again');
    await look(page, 'push-config-faults');
    await page.keyboard.press('Escape');
    await click(page, 'button', SET);
    await click(page, 'switch', 'Enabled');
    await page.locator('dialog button[type=submit]').click();
    await shows(page, 'Not saved yet');
    await look(page, 'agent-unsaved');
    await page.evaluate(() => document.querySelector('.menu a.item').click());
    await page.waitForSelector(named('dialog', 'Leave without saving?'));
    await look(page, 'leave');
    await click(page, 'button', 'Leave without saving');
  });

  await step('a new endpoint', async () => {
    await open(page, '?agent=returns-desk');
    await shows(page, 'No deliveries yet');
    await click(page, 'button', SET);
    await type(page, 'URL', hook.url('/returns'));
    await click(page, 'checkbox', 'User Message');
    await page.locator('dialog button[type=submit]').click();
    await page.locator('.page-head .button.primary').click();
    await shows(page, 'Signing secret');
    const ground = () => page.$eval('.page-head .button.primary', (button) => getComputedStyle(button).backgroundColor);
    await until('Save has nothing to do', () => page.$eval('.page-head .button.primary', (button) => button.disabled));
    await page.hover('.page-head h1');
    const disabled = await ground();
    await page.hover('.page-head .button.primary');
    assert.equal(await ground(), disabled, 'a disabled button has no hover color');
    await look(page, 'agent-secret');
  });

  await step('the profile in each state', async () => {
    await open(page, '?page=profile');
    await shows(page, 'No browser yet');
    await look(page, 'profile');
    for (const [name, permission, person, role, words] of [
      ['profile-enabled', 'granted', 'olga', 'operator', 'This browser'],
      ['profile-blocked', 'denied', 'olga', 'operator', 'Notifications blocked'],
      ['profile-viewer', 'default', 'vera', 'viewer', 'Your role does not allow'],
      ['profile-unsupported', null, 'olga', 'operator', 'This browser cannot receive notifications'],
      ['service', 'default', 'sam', 'service', 'This token has no pages'],
    ]) {
      const context = await browser.createBrowserContext();
      const own = await tab(context);
      await pretendPushService(own, PUSH);
      await own.evaluateOnNewDocument((state) => {
        if (state === null) delete window.Notification;
        else Object.defineProperty(Notification, 'permission', { get: () => state });
      }, permission);
      await signInAs(own, person, role, role === 'service' ? '' : '?page=profile');
      await shows(own, words);
      const here = await own.$$eval('.menu [aria-current]', (items) => items.map((item) => item.textContent));
      assert.deepEqual(here, role === 'service' ? [] : ['Profile']);
      await look(own, name);
      await context.close();
    }
  });

  await step('pages that are missing, loading, or unavailable', async () => {
    await open(page, '?page=nowhere');
    await look(page, 'nothing-here');
    await page.setRequestInterception(true);
    let answer = () => {};
    const intercept = (request) => {
      if (!request.url().includes('/v1/agents')) request.continue();
      else answer = () => request.abort();
    };
    page.on('request', intercept);
    await open(page, '?page=agents');
    await page.waitForSelector('.ghost');
    await look(page, 'agents-loading');
    answer();
    await shows(page, 'This could not be loaded');
    await look(page, 'agents-error');
    page.off('request', intercept);
    page.on('request', (request) => {
      if (!request.url().includes('/v1/')) request.continue();
      else request.respond({ status: 401, contentType: 'application/problem+json', body: '{}' });
    });
    await click(page, 'button', 'Try again');
    await shows(page, 'You were signed out');
    await look(page, 'signed-out');
  });

  assert.deepEqual(faults, []);
});
