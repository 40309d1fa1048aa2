// Queue and replicas, from the server's metrics. A key without their scope shows none.

import { ask } from "./server.js";

const place = document.getElementById("load");
const ENGINE = ["csm_engine_running", "csm_engine_waiting", "csm_engine_capacity"];

export async function showLoad() {
  let text;
  try {
    text = await (await ask("metrics")).text();
  } catch {
    place.hidden = true;
    return;
  }
  const engines = ENGINE.map((name) => valuesOf(text, name));
  const [running, waiting, capacity] = engines.map((values) => values.reduce((sum, value) => sum + value, 0));
  const replicas = engines[0].length;
  place.hidden = !replicas;
  const queued = Math.max(0, ...valuesOf(text, "csm_jobs_queued")); // each runner reports the whole queue
  const generators = `${replicas} ${replicas === 1 ? "generator" : "generators"}`;
  const said = `${generators}: ${running} of ${capacity} slots taken, ${waiting} waiting. Jobs queued: ${queued}.`;
  if (place.textContent !== said) place.textContent = said;
}

/** The samples of one metric, in Prometheus' text format. */
function valuesOf(text, name) {
  const lines = text.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  return lines.map((line) => Number(line.slice(line.lastIndexOf(" ") + 1)));
}
