// Tests Firefox without a portal tab and after a restart: the notifications on the desktop, and the page that a click opens.
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

  await step('signing in enables notifications that the browser allows', async () => {
    const page = await tab(browser);
    await signInAs(page, 'ada', 'operator');
    await until('the browser is registered', async () => (await browsersOf('ada')).length === 1);
  });

  await step('a click shows the session in the open tab', async () => {
    const [page] = (await browser.pages()).filter((one) => one.url().startsWith(`${origin}/portal/`));
    const other = await browser.newPage();
    await other.bringToFront();
    await assign('s-1', 'ada');
    await screen.click('You have new session assigned.');
    await until('the session is shown', () => page.url() === `${origin}/portal/?session=s-1`);
    await until('its tab is in front', () => page.evaluate(() => document.hasFocus()));
    await page.close();
  });

  await step('without a portal tab the notification appears too, and a click opens the session', async () => {
    await say('s-1', 'are you there?');
    await screen.click('New message: are you there?');
    await until('a tab with the session was opened', async () =>
      (await browser.pages()).some((page) => page.url() === `${origin}/portal/?session=s-1`));
  });

  await step('the newest message of each session arrives when the closed browser starts again', async () => {
    await browser.close();
    await until('the browser has disconnected', () => !push.hasBrowser);
    await assign('s-2', 'ada');
    await say('s-1', 'the first');
    // Attempts run concurrently, so a later message can arrive first. The test waits until the earlier messages are delivered.
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
