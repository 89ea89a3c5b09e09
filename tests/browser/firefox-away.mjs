// Firefox with no portal tab, and not running at all: what the desktop shows, and where a click leads.
import assert from 'node:assert/strict';

import { desktop } from './lib/desktop.mjs';
import { firefox, profile } from './lib/firefox.mjs';
import { signInAs, tab } from './lib/pages.mjs';
import { assign, browsersOf, origin, outcomes, say } from './lib/portal.mjs';
import { pushService } from './lib/push-service.mjs';
import { run, step, until } from './lib/test.mjs';

const delivered = (session, count) =>
  until(`the push service has ${count} of ${session}`, async () =>
    (await outcomes(session)).filter((outcome) => outcome === 'delivered').length === count);

await run(async (opening) => {
  const screen = opening(await desktop());
  const push = opening(await pushService());
  const { directory } = opening(profile());
  const start = () => firefox({ directory, pushService: push.url, hasDesktop: true });
  let browser = opening(await step('Firefox starts', start));
  const shown = (body) => until(`the desktop shows "${body}"`, () => screen.shown(body));

  await step('notifications that were allowed are enabled by signing in', async () => {
    const page = await tab(browser);
    await signInAs(page, 'ada', 'operator');
    await until('the browser is registered', async () => (await browsersOf('ada')).length === 1);
  });

  await step('a click shows the session in the tab that is open', async () => {
    const [page] = (await browser.pages()).filter((one) => one.url().startsWith(`${origin}/portal/`));
    const other = await browser.newPage();
    await other.bringToFront();
    await assign('s-1', 'ada');
    await screen.click('You have new session assigned.');
    await until('the session is shown', () => page.url() === `${origin}/portal/?session=s-1`);
    await until('its tab is in front', () => page.evaluate(() => document.hasFocus()));
    await page.close();
  });

  await step('with no portal tab open it is shown all the same, and a click opens the session', async () => {
    await say('s-1', 'is anybody there?');
    await screen.click('New message: is anybody there?');
    await until('a tab with the session was opened', async () =>
      (await browser.pages()).some((page) => page.url() === `${origin}/portal/?session=s-1`));
  });

  await step('what came while the browser was closed arrives at its start, the newest of each session', async () => {
    await browser.close();
    await until('the browser has gone', () => !push.hasBrowser);
    await assign('s-2', 'ada');
    await say('s-1', 'the first');
    // Attempts run at the same time and may overtake each other: only what comes after these have arrived is the newest.
    await delivered('s-1', 3);
    await delivered('s-2', 1);
    await say('s-1', 'the second');
    await say('s-2', 'of another session');
    await delivered('s-1', 4);
    await delivered('s-2', 2);
    browser = opening(await start());
    await shown('New message: of another session');
    await shown('New message: the second');
    assert.equal(screen.shown('New message: the first'), undefined);
  });
});
