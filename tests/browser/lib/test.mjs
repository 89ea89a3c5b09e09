// Building blocks of the browser scripts: named steps, conditions with a deadline, and requests to the Rust test that started
// the script (tests/it/support/browser.rs).
import readline from 'node:readline';

/** The timeout of a condition, in ms: far longer than any takes. */
const PATIENCE = 20_000;

/** From the Rust test: the portal's address, tokens and keys. */
export const env = (name) => {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: these scripts are run by cargo test --test it browser`);
  return value;
};

const started = performance.now();

/** Runs one step and prints its duration; errors in it start with its name. */
export async function step(name, body) {
  const from = performance.now();
  try {
    const result = await body();
    console.log(`${Math.round(performance.now() - from).toString().padStart(6)} ms  ${name}`);
    return result;
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
}

/** Waits until the function returns a truthy value, and returns it. */
export async function until(what, ask, patience = PATIENCE) {
  const deadline = performance.now() + patience;
  let last;
  for (;;) {
    try {
      last = await ask();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}; at last: ${show(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

const show = (value) => (value instanceof Error ? value.message : JSON.stringify(value));

const input = readline.createInterface({ input: process.stdin });
const answers = input[Symbol.asyncIterator]();
// When the Rust test ends, this process and its browsers exit.
input.on('close', () => process.exit(1));

/** Asks the Rust test for an action; returns its response. */
export async function ask(request) {
  console.log(`@${request}`);
  const { value, done } = await answers.next();
  if (done) throw new Error(`nobody answers to ${request}`);
  return value;
}

/** Runs the script's body, closes what it has opened, and exits. */
export async function run(body) {
  const opened = [];
  const open = (closable) => {
    opened.push(closable);
    return closable;
  };
  try {
    await body(open);
    console.log(`${Math.round(performance.now() - started).toString().padStart(6)} ms  in all`);
  } catch (error) {
    console.error(error.stack);
    process.exitCode = 1;
  }
  for (const closable of opened.reverse()) await Promise.resolve(closable.close()).catch(() => {});
  process.exit();
}
