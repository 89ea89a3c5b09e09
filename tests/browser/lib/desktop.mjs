// The desktop's notifications: a daemon on the session bus that sees each one, and clicks it when it is told to. A click that
// comes this way is trusted, as a person's is.
import { spawn } from 'node:child_process';
import readline from 'node:readline';

import { until } from './test.mjs';

/** Run below `dbus-run-session`. */
export async function desktop() {
  const script = new URL('./notification-daemon.py', import.meta.url).pathname;
  const daemon = spawn('/usr/bin/python3', [script], { stdio: ['pipe', 'pipe', 'inherit'] });
  const seen = [];
  readline.createInterface({ input: daemon.stdout }).on('line', (line) => seen.push(JSON.parse(line)));
  await until('the daemon of the desktop is there', () => seen.some(({ event }) => event === 'ready'));
  const shown = (body) => seen.find((one) => one.event === 'notify' && one.body.includes(body));
  return {
    /** How often it was asked to show one. */
    times: () => seen.filter(({ event }) => event === 'notify').length,
    /** The first notification with this text; undefined: there was none. */
    shown,
    /** Waits for the notification with this text and clicks it. */
    click: async (body) => {
      const { id } = await until(`the desktop shows "${body}"`, () => shown(body));
      daemon.stdin.write(`${id}\n`);
    },
    close: () => daemon.kill(),
  };
}
