// The libraries that `scripts/install browsers` puts below target/: Node looks for packages beside the script, and there
// nothing is to be written.
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../../target/browser/node/', import.meta.url));

export const axe = require('axe-core');
export const puppeteer = require('puppeteer-core');
export const { WebSocketServer } = require('ws');
