// Drains N jobs with pg-boss: eight loops fetch batches of 100 jobs and send a POST for each. Usage: node pg-boss.mjs N
import PgBoss from "pg-boss";
import { jobs, post, rate } from "./work.mjs";

const LOOPS = 8;
const count = Number(process.argv[2]);

const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, max: 12 });
boss.on("error", console.error);
await boss.start();
await boss.createQueue("post");
for (const payloads of jobs(count)) {
  await boss.insert(payloads.map((data) => ({ name: "post", data, retryLimit: 0 })));
}

let done = 0;
async function loop() {
  while (done < count) {
    const batch = await boss.fetch("post", { batchSize: 100 });
    if (batch.length === 0) return;
    await Promise.all(batch.map((job) => post(job.data)));
    await boss.complete("post", batch.map((job) => job.id));
    done += batch.length;
  }
}
const started = performance.now();
await Promise.all(Array.from({ length: LOOPS }, loop));
if (done !== count) throw new Error(`${done} of ${count} jobs were done`);
console.log(rate(count, started));
process.exit(0);
