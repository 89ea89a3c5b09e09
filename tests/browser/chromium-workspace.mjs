// Tests the badge and the red dot, which report the active conversations of all nodes. Roles without a workspace see neither.
import assert from 'node:assert/strict';

import { chromium } from './lib/chromium.mjs';
import { assertQuiet, badge, gate, hasDot, keepAppBadges, menu, shows, tab } from './lib/pages.mjs';
import { assign, resolve, say, token, transfer } from './lib/portal.mjs';
import { ask, run, step, until } from './lib/test.mjs';

const counts = (page, expected) => until(`the badge shows ${expected}`, async () => (await badge(page)) === expected);
const appBadge = (page) => page.evaluate(() => window.appBadges.at(-1));
const dotted = (page, expected) =>
  until(`the dot is ${expected ? 'there' : 'gone'}`, async () => (await hasDot(page)) === expected);

await run(async (opening) => {
  const { browser } = opening(await chromium());
  const node = opening(await gate(`http://${await ask('node')}`));
  const page = await tab(browser);
  await keepAppBadges(page);
  const signIn = async (target, user, role) => {
    await target.goto(`${node.origin}/portal/`);
    await target.evaluate(
      (bearer) => {
        localStorage.setItem('flametree.token', bearer);
        localStorage.setItem('flametree.notifications-dialog-closed', 'yes');
      },
      token(user, role),
    );
    await target.reload();
    await target.waitForSelector('nav[aria-label=Portal]');
  };

  await step('no badge at 0, and a page that explains what it will show', async () => {
    await signIn(page, 'olga', 'operator');
    assert.deepEqual(await menu(page), ['Human Agents', 'Profile']);
    await shows(page, 'No conversations are waiting');
    assert.equal(await badge(page), null);
  });

  await step('events accepted by another node are counted here', async () => {
    await transfer('s-1');
    await counts(page, '1');
    await assign('s-2', 'olga');
    await counts(page, '2');
    await shows(page, '2 active conversations');
    await shows(page, 's-1 agent-1 Waiting');
    await shows(page, 's-2 agent-1 With you');
    await say('s-1', 'hello');
    await assign('s-1', 'ravi');
    await shows(page, 's-1 agent-1 With ravi');
    assert.equal(await badge(page), '2');
    assert.equal(await appBadge(page), 2);
  });

  await step('the dot is visible while another tab is in front, and disappears on return', async () => {
    assert.equal(await hasDot(page), false, 'the dot is shown while the portal is visible');
    const other = await browser.newPage();
    await other.bringToFront();
    await dotted(page, true);
    await resolve('s-1');
    await resolve('s-2');
    await dotted(page, false);
    await transfer('s-3');
    await dotted(page, true);
    assert.equal(await page.evaluate(() => document.visibilityState), 'hidden');
    await page.bringToFront();
    await dotted(page, false);
    await counts(page, '1');
    await other.close();
  });

  await step('roles without the workspace have neither the menu item nor a stream', async () => {
    for (const [user, role] of [
      ['vera', 'viewer'],
      ['emil', 'agent_editor'],
    ]) {
      const context = await browser.createBrowserContext();
      const outsider = await tab(context);
      const asked = [];
      outsider.on('request', (request) => asked.push(new URL(request.url()).pathname));
      await signIn(outsider, user, role);
      await shows(outsider, 'Agents');
      assert.deepEqual(await menu(outsider), ['Agents', 'Profile']);
      assert(!asked.some((path) => path.startsWith('/v1/workspace')), asked.join());
      assertQuiet(outsider);
      await context.close();
    }
  });

  await step('a tab that lost its server reconnects and shows what has changed', async () => {
    await page.goto(`${node.origin}/portal/?page=human-agents`);
    await counts(page, '1');
    await ask('stop');
    await shows(page, 'Reconnecting');
    assert.equal(await badge(page), '1', 'the badge lost its count');
    await transfer('s-4');
    node.leadTo(`http://${await ask('start')}`);
    await counts(page, '2');
    await shows(page, 'Live');
    await resolve('s-3');
    await resolve('s-4');
    await until('the badge is hidden at 0', async () => (await badge(page)) === null);
    assert.equal(await appBadge(page), 0);
    await shows(page, 'No conversations are waiting');
  });

  // The browser itself reports that the server was unreachable.
  assertQuiet(page, /Failed to load resource/, /ERR_/);
});
