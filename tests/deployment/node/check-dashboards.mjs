// Checks dashboard files against Grafana's schema: node check-dashboards.mjs FILE... Each file becomes a constant of the type
// DashboardFile, so that the compiler reports the line of every fault, including unknown fields. Run this script in the folder
// where package.json is installed.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const here = dirname(fileURLToPath(import.meta.url));
const generated = join(here, 'generated');
rmSync(generated, { recursive: true, force: true });
mkdirSync(generated);

const uids = new Map();
const sources = process.argv.slice(2).map((file) => {
  const text = readFileSync(file, 'utf8');
  const { uid } = JSON.parse(text);
  if (uids.has(uid)) throw new Error(`${file} and ${uids.get(uid)} have the same uid`);
  uids.set(uid, file);
  const source = join(generated, `${basename(file, '.json')}.ts`);
  // The declaration is on the JSON file's first line, so that line numbers match.
  const line = `import type { DashboardFile } from '../dashboard'; export const dashboard: DashboardFile = `;
  writeFileSync(source, line + text);
  return source;
});
if (sources.length === 0) throw new Error('no dashboards were named');

const program = ts.createProgram(sources, {
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  noEmit: true,
  skipLibCheck: true,
  strict: true,
  target: ts.ScriptTarget.ES2022,
  types: [],
});
const faults = ts.getPreEmitDiagnostics(program);
if (faults.length > 0) {
  const host = { getCanonicalFileName: (name) => name, getCurrentDirectory: () => resolve('.'), getNewLine: () => '\n' };
  console.error(ts.formatDiagnostics(faults, host));
  process.exit(1);
}
console.log(`${sources.length} dashboards are what Grafana's schema says`);
