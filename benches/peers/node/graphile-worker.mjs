// Drains N jobs with graphile-worker at its fastest settings (local queue, batched completion). Each job sends a POST. Usage:
// node graphile-worker.mjs N
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { jobs, post, rate } from "./work.mjs";

const connectionString = process.env.DATABASE_URL;
const count = Number(process.argv[2]);
const logger = new Logger(() => () => {});

const utils = await makeWorkerUtils({ connectionString });
await utils.migrate();
for (const payloads of jobs(count)) {
  await utils.addJobs(payloads.map((payload) => ({ identifier: "post", payload, maxAttempts: 1 })));
}

let done = 0;
const started = performance.now();
await new Promise((resolve) => {
  run({
    noHandleSignals: true,
    preset: {
      worker: {
        connectionString,
        logger,
        concurrentJobs: 64,
        maxPoolSize: 12,
        pollInterval: 500,
        localQueue: { size: 500 },
        completeJobBatchDelay: 5,
        failJobBatchDelay: 5,
      },
    },
    taskList: {
      post: async (payload) => {
        await post(payload);
        if (++done === count) resolve();
      },
    },
  });
});
console.log(rate(count, started));
process.exit(0);
