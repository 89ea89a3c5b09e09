// The job, the POST request and the output line of pg-boss.mjs and graphile-worker.mjs.
import { Agent, request } from "undici";

const dispatcher = new Agent({ connections: 128, pipelining: 1 });
const payload = {
  event: "user_message",
  session_id: "s-123456",
  customer_id: "c-1234",
  text: "Hello there, I would like to know the status of my order please",
};

/** `count` jobs in groups of 500. */
export function* jobs(count) {
  for (let left = count; left > 0; left -= 500) yield Array(Math.min(left, 500)).fill(payload);
}

export async function post(body) {
  const answer = await request(process.env.RECEIVER_URL, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    dispatcher,
  });
  await answer.body.dump();
}

/** The result, alone on the last line: jobs per second. */
export const rate = (count, started) => String(count / ((performance.now() - started) / 1000));
