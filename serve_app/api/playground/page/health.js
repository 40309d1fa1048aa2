// Says what the server is, and whether it is ready.

import { showLoad } from "./load.js";
import { ask, ServerError } from "./server.js";

const READY_EVERY_MS = 10_000;
const DOWN_EVERY_MS = 1_000;
const strip = document.getElementById("health");

/** Asks from now on. `onInfo(info)` gets what GET /info answers, each time the server has come up. */
export async function watchHealth(onInfo) {
  for (;;) {
    const isReady = await check(onInfo);
    await new Promise((resolve) => setTimeout(resolve, isReady ? READY_EVERY_MS : DOWN_EVERY_MS));
    while (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

async function check(onInfo) {
  try {
    await ask("ready");
    if (strip.dataset.state !== "ready") await showInfo(onInfo);
    showLoad();
    return true;
  } catch (error) {
    const isUp = error instanceof ServerError && error.status > 0;
    show(isUp ? "waiting" : "down", error.message);
    return false;
  }
}

/** Asks again, as with a new key. */
export async function showInfo(onInfo) {
  let info;
  try {
    info = await (await ask("info")).json();
  } catch (error) {
    if (error.status !== 401) throw error;
    show("ready", "ready, needs a key");
    document.getElementById("enter-key").hidden = false;
    return;
  }
  document.getElementById("enter-key").hidden = true;
  const computed = info.quantization === "none" ? info.dtype : info.quantization;
  show("ready", `ready: ${info.model} (${info.weights}) on ${info.device}, ${computed}, version ${info.version}`);
  const notice = document.getElementById("notice");
  notice.hidden = !info.notice;
  notice.textContent = info.notice ?? "";
  onInfo(info);
}

function show(state, text) {
  // A status is read out whenever it changes, so it is left alone where it does not.
  if (strip.textContent !== text) strip.textContent = text;
  strip.dataset.state = state;
}
