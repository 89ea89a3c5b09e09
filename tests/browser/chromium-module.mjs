// Tests the client module in a page that does not belong to the portal: many tabs, every fault, and a changed VAPID key.
import assert from 'node:assert/strict';

import { chromium, permit } from './lib/chromium.mjs';
import { assertQuiet, hasten, pretendPushService, quicken, tab } from './lib/pages.mjs';
import { assign, browsersOf, origin, resolve, token } from './lib/portal.mjs';
import { env, run, step, until } from './lib/test.mjs';

const PUSH = `http://${env('PUSH_ADDRESS')}:8182/wpush`;
/** A page of this origin that is not the reference portal. */
const ELSEWHERE = `${origin}/livez`;
/** More tabs than a browser's maximum of connections to one server. */
const TABS = 8;

/** A tab with a separate client as `window.client`; `window.bearer` is its token. */
async function client(browser, user, { role = 'operator', options = {}, prepare = async () => {} } = {}) {
  const page = await tab(browser);
  await prepare(page);
  await page.goto(ELSEWHERE);
  await page.evaluate(async (bearer, more) => {
    const { NotificationsClient } = await import('/portal/notifications.js');
    window.bearer = bearer;
    window.client = new NotificationsClient({ token: () => window.bearer, ...more });
    window.states = [];
    window.client.onStateChange((state) => window.states.push(state));
  }, token(user, role), options);
  return page;
}

/** The code and message of the error that an attempt throws. */
const thrown = (page, attempt) =>
  page.evaluate(async (name) => {
    try {
      await window.client[name]();
      return null;
    } catch ({ name: kind, code, message }) {
      return { kind, code, message };
    }
  }, attempt);

const watch = (page) =>
  page.evaluate(() => {
    window.counts = [];
    window.listed = [];
    window.client.watchWorkspace((count) => window.counts.push(count), {
      onConversations: (conversations) => {
        window.listed = conversations.map((conversation) => conversation.session_id);
      },
    });
  });

const count = (page) => page.evaluate(() => window.counts.at(-1));

const locks = (page) =>
  page.evaluate(async () => {
    const { held, pending } = await navigator.locks.query();
    return [held.length, pending.length];
  });

await run(async (opening) => {
  const { browser } = opening(await chromium());

  await step('many tabs share one stream, and each of them gets every change', async () => {
    const tabs = [];
    for (let number = 0; number < TABS; number += 1) tabs.push(await client(browser, 'ada'));
    const stranger = await client(browser, 'otto', { role: 'admin' });
    // The first tab opens the stream for all tabs.
    await watch(tabs[0]);
    await until('the first counts none', async () => (await count(tabs[0])) === 0);
    await Promise.all([...tabs.slice(1), stranger].map(watch));
    await assign('s-1', 'ada');
    await until('all count one', async () => (await Promise.all([...tabs, stranger].map(count))).every((one) => one === 1));
    await until('one tab of each user holds a stream', async () => {
      const [held, pending] = await locks(tabs[0]);
      return held === 2 && pending === TABS - 1;
    });
    const answered = await tabs.at(-1).evaluate(async () => (await fetch('/livez')).status);
    assert.equal(answered, 200, 'connections are left');
    // The tab with the stream closes, and another tab opens the stream.
    await tabs.shift().close();
    await assign('s-2', 'ada');
    await until('the others count two', async () => (await Promise.all(tabs.map(count))).every((one) => one === 2));
    await until('and list them', async () =>
      (await Promise.all(tabs.map((page) => page.evaluate(() => window.listed.join())))).every((list) => list === 's-2,s-1'));
    await Promise.all([resolve('s-1'), resolve('s-2')]);
    await until('all count none', async () => (await Promise.all(tabs.map(count))).every((one) => one === 0));
    for (const page of [...tabs, stranger]) {
      assertQuiet(page);
      await page.close();
    }
  });

  await step('the visible tab takes over the stream of a frozen tab', async () => {
    const holder = await client(browser, 'ada', { prepare: quicken });
    await watch(holder);
    await until('it counts none', async () => (await count(holder)) === 0);
    const page = await client(browser, 'ada', { prepare: quicken });
    const streams = [];
    page.on('request', (request) => request.url().endsWith('/v1/workspace/stream') && streams.push(request));
    await watch(page);
    await until('the other tab counts none', async () => (await count(page)) === 0);
    await page.bringToFront();
    const devtools = await holder.createCDPSession();
    await devtools.send('Page.setWebLifecycleState', { state: 'frozen' });
    await until('it has taken over', () => streams.length === 1);
    await assign('s-1', 'ada');
    await until('it counts one', async () => (await count(page)) === 1);
    await devtools.send('Page.setWebLifecycleState', { state: 'active' });
    await resolve('s-1');
    for (const one of [page, holder]) {
      await until('both count none', async () => (await count(one)) === 0);
      assertQuiet(one);
    }
    assert.deepEqual(await locks(page), [1, 1], 'the other tab waits for the lock');
    await Promise.all([page.close(), holder.close()]);
  });

  await step('states before, after and against the permission', async () => {
    await permit(browser, 'prompt');
    const page = await client(browser, 'ada', { prepare: (fresh) => pretendPushService(fresh, PUSH) });
    assert.equal(await page.evaluate(() => window.client.permissionState()), 'not_enabled');
    assert.equal(await page.evaluate(() => window.client.start()), 'not_enabled');
    await permit(browser, 'denied');
    const { kind, code } = await thrown(page, 'enable');
    assert.deepEqual([kind, code], ['NotificationsError', 'blocked']);
    assert.equal(await page.evaluate(() => window.client.permissionState()), 'blocked');
    // If the user allows notifications in the site settings, the page needs no click.
    await permit(browser, 'granted');
    await until('it is enabled', () => page.evaluate(() => window.states.at(-1) === 'enabled'));
    assert.equal((await browsersOf('ada')).length, 1);
    await page.evaluate(() => window.client.disable());
    assert.deepEqual([await browsersOf('ada'), await page.evaluate(() => window.states.at(-1))], [[], 'not_enabled']);
    assert.equal(await page.evaluate(() => window.client.start()), 'not_enabled', 'disabled notifications stay disabled');
    await page.evaluate(() => window.client.enable());
    assert.equal((await browsersOf('ada')).length, 1);
    assertQuiet(page);
    await page.close();
  });

  await step('a subscription with another key is replaced by a new one', async () => {
    const page = await client(browser, 'grace', { prepare: (fresh) => pretendPushService(fresh, PUSH) });
    const old = await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.getRegistration('/portal/');
      const made = await registration.pushManager.subscribe({ applicationServerKey: new Uint8Array(65).fill(4) });
      return made.endpoint;
    });
    assert.equal(await page.evaluate(() => window.client.start()), 'enabled');
    const now = await page.evaluate(async () => {
      const registration = await navigator.serviceWorker.getRegistration('/portal/');
      return (await registration.pushManager.getSubscription()).endpoint;
    });
    assert.notEqual(now, old);
    assert.equal((await browsersOf('grace')).length, 1);
    await page.close();
  });

  await step('signing out does both steps even if one fails', async () => {
    const start = async () => {
      const page = await client(browser, 'heidi', { prepare: (fresh) => pretendPushService(fresh, PUSH) });
      assert.equal(await page.evaluate(() => window.client.start()), 'enabled');
      return page;
    };
    const one = await start();
    const withoutApi = await one.evaluate(async () => {
      window.bearer = 'no token';
      const done = await window.client.signOut();
      const registration = await navigator.serviceWorker.getRegistration('/portal/');
      return { ...done, left: await registration.pushManager.getSubscription() };
    });
    assert.deepEqual(withoutApi, { unsubscribed: true, removed: false, left: null });
    await one.close();
    const other = await start();
    const withoutBrowser = await other.evaluate(async () => {
      const registration = await navigator.serviceWorker.getRegistration('/portal/');
      const subscription = await registration.pushManager.getSubscription();
      subscription.unsubscribe = () => Promise.reject(new Error('no'));
      return await window.client.signOut();
    });
    assert.deepEqual(withoutBrowser, { unsubscribed: false, removed: true });
    // The subscription whose removal failed is still stored. The next push to this subscription fails, so the service removes it.
    assert.equal((await browsersOf('heidi')).length, 1);
    await other.close();
  });

  await step('the module reports a slow push service, and accepts its late response', async () => {
    const prepare = async (page) => {
      await pretendPushService(page, PUSH);
      await page.evaluateOnNewDocument(() => {
        const real = PushManager.prototype.subscribe;
        PushManager.prototype.subscribe = async function late(options) {
          await new Promise((answer) => {
            window.answer = answer;
          });
          return await real.call(this, options);
        };
      });
      await hasten(page, 15_000);
    };
    const page = await client(browser, 'ivan', { prepare });
    const { code, message } = await thrown(page, 'enable');
    assert.equal(code, 'timeout');
    assert.match(message, /did not respond within 15 seconds/);
    assert.deepEqual(await browsersOf('ivan'), []);
    await page.evaluate(() => window.answer());
    await until('it is enabled', () => page.evaluate(() => window.states.at(-1) === 'enabled'));
    assert.equal((await browsersOf('ivan')).length, 1);
    await page.close();
  });

  await step('a user who signs out during registration is not registered', async () => {
    for (const waitsFor of ['the answer of the push service', 'the answer of the person']) {
      const page = await client(browser, 'karl', {
        prepare: async (fresh) => {
          await pretendPushService(fresh, PUSH);
          await fresh.evaluateOnNewDocument((isPushService) => {
            const [where, name] = isPushService ? [PushManager.prototype, 'subscribe'] : [Notification, 'requestPermission'];
            const real = where[name];
            where[name] = async function late(...given) {
              await new Promise((answer) => {
                window.answer = answer;
              });
              return await real.apply(this, given);
            };
          }, waitsFor.includes('push service'));
        },
      });
      await page.evaluate(() => {
        window.enabling = window.client.enable().catch(({ code }) => code);
      });
      await until(`it waits for ${waitsFor}`, () => page.evaluate(() => window.answer !== undefined));
      await page.evaluate(() => window.client.signOut());
      await page.evaluate(() => window.answer());
      assert.equal(await page.evaluate(() => window.enabling), 'ended', waitsFor);
      await until(`no subscription is left by ${waitsFor}`, () =>
        page.evaluate(async () => {
          const registration = await navigator.serviceWorker.getRegistration('/portal/');
          return (await registration.pushManager.getSubscription()) === null;
        }));
      assert.deepEqual(await browsersOf('karl'), [], waitsFor);
      await page.close();
    }
  });

  await step('rejections by the API or the push service have readable messages', async () => {
    const prepare = (page) => pretendPushService(page, 'https://push.elsewhere.example');
    const refused = await client(browser, 'judy', { prepare });
    const problem = await thrown(refused, 'enable');
    assert.deepEqual([problem.code, problem.message], ['refused', "This deployment does not send to this browser's push service."]);
    assert.equal(await refused.evaluate(() => window.client.fault.code), 'refused');
    await refused.close();
    const broken = await client(browser, 'judy', {
      prepare: (page) => page.evaluateOnNewDocument(() => {
        PushManager.prototype.getSubscription = async () => null;
        PushManager.prototype.subscribe = () => Promise.reject(new DOMException('no', 'AbortError'));
      }),
    });
    assert.equal((await thrown(broken, 'enable')).code, 'push_service');
    await broken.close();
  });
});
