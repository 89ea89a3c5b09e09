// Debian's headless Firefox, with a push service that the tests run.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { puppeteer } from './modules.mjs';

const PERMISSIONS = { prompt: 0, granted: 1, denied: 2 };

/** A profile that outlives the browser: `close()` removes it. */
export function profile() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'flametree-firefox-'));
  return { directory, close: () => fs.rmSync(directory, { recursive: true, force: true }) };
}

/**
 * Starts Firefox with the profile. The string `pushService` is the WebSocket URL of the push service.
 * If the test has a desktop, its daemon (lib/desktop.mjs) shows and clicks notifications. Otherwise Firefox shows notifications.
 */
export async function firefox({ directory, pushService, permission = 'granted', hasDesktop = false }) {
  return await puppeteer.launch({
    browser: 'firefox',
    executablePath: '/usr/bin/firefox-esr',
    headless: true,
    protocolTimeout: 30_000,
    userDataDir: directory,
    extraPrefsFirefox: {
      'dom.push.serverURL': pushService,
      'dom.push.testing.allowInsecureServerURL': true,
      'dom.push.connection.enabled': true,
      'dom.push.enabled': true,
      'dom.push.retryBaseInterval': 200,
      'permissions.default.desktop-notification': PERMISSIONS[permission],
      'alerts.useSystemBackend': hasDesktop,
      'network.connectivity-service.enabled': false,
      'network.manage-offline-status': false,
    },
  });
}
