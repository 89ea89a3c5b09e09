// Loads the libraries below target/. Without this module, Node would search for libraries next to the script.
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../../target/browser/node/', import.meta.url));

export const axe = require('axe-core');
export const puppeteer = require('puppeteer-core');
export const { WebSocketServer } = require('ws');
