// The desktop's notifications. A daemon on the session bus records each notification, and clicks a notification on request. The
// browser treats this click like a click of a user.
import { spawn } from 'node:child_process';
import readline from 'node:readline';

import { until } from './test.mjs';

/** Needs `dbus-run-session`. */
export async function desktop() {
  const script = new URL('./notification-daemon.py', import.meta.url).pathname;
  const daemon = spawn('/usr/bin/python3', [script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const seen = [];
  readline.createInterface({ input: daemon.stdout }).on('line', (line) => seen.push(JSON.parse(line)));
  await until("the desktop's daemon runs", () => seen.some(({ event }) => event === 'ready'));
  const shown = (body) => seen.find((one) => one.event === 'notify' && one.body.includes(body));
  return {
    /** The number of notifications shown. */
    times: () => seen.filter(({ event }) => event === 'notify').length,
    /** The first notification with this text, or undefined. */
    shown,
    /** Waits for the notification with this text and clicks it. */
    click: async (body) => {
      const { id } = await until(`the desktop shows "${body}"`, () => shown(body));
      daemon.stdin.write(`${id}\n`);
    },
    close: () => daemon.kill(),
  };
}
