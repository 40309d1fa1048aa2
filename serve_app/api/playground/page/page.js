// Puts the page together.

import { addClip, dataUri, offerKeeping } from "./clips.js";
import { codeOf } from "./code.js";
import { downloadAs } from "./download.js";
import { markField, unmarkFields } from "./fields.js";
import { fillForm, paintLines, readForm, showDefaults } from "./form.js";
import { showInfo, watchHealth } from "./health.js";
import { askForKey } from "./key.js";
import { Listener } from "./listener.js";
import { record } from "./microphone.js";
import { ask, ServerError } from "./server.js";
import { History } from "./takes.js";
import { keepVoice, showVoices } from "./voices.js";

const byId = (id) => document.getElementById(id);
const EXAMPLE = "0: Did you hear that?\n1: I heard it. It was the wind.\n0: Then who closed the door?";
const listener = new Listener();
const history = new History({
  play: (take) => listener.play(take),
  again: (take) => speak(take),
  edit: (take) => fillForm(take),
});
let shown = null; // the take whose code stands there
let maxBodyBytes = Infinity;

async function speak(asked) {
  unmarkFields();
  paintLines();
  byId("failure").hidden = true;
  try {
    checkSize(asked.request);
    const take = await listener.speak(asked, needKey);
    if (take) history.add((shown = take));
    showCode();
  } catch (error) {
    showError(error);
  }
}

/** Raises ServerError. Browsers do not show the server's own refusal, which comes while they still send. */
function checkSize({ context = [] }) {
  const bytes = context.reduce((sum, clip) => sum + clip.audio.length, 0);
  if (bytes < maxBodyBytes) return;
  const [has, most] = [bytes, maxBodyBytes].map((number) => `${Math.ceil(number / 2 ** 20)} MiB`);
  throw new ServerError(`The clips have ${has} as sent, the limit is ${most}. Use fewer or shorter ones.`, 413, "context");
}

function showError(error) {
  const [name, index] = (error.field ?? "").split(".");
  if (name === "scene" && index !== undefined) paintLines(Number(index));
  if (markField(error)) return;
  byId("failure").textContent = error.message;
  byId("failure").hidden = false;
}

async function needKey(reason) {
  const key = await askForKey(reason);
  if (key !== null) setTimeout(() => showInfo(onInfo).catch(() => {}));
  return key;
}

function showCode() {
  byId("code-section").hidden = byId("other").hidden = !shown;
  if (shown) byId("code").textContent = codeOf(byId("language").value, shown.request, shown.names);
}

async function download() {
  byId("failure").hidden = true;
  try {
    await downloadAs(shown, needKey);
  } catch (error) {
    showError(error);
  }
}

async function copyCode() {
  getSelection().selectAllChildren(byId("code"));
  try {
    await navigator.clipboard.writeText(byId("code").textContent);
    byId("copy-status").textContent = "Copied.";
  } catch {
    byId("copy-status").textContent = "Press Ctrl+C to copy what is selected.";
  }
}

let endRecording = null; // while it runs
let recordingSince = 0;
let numRecordings = 0;

async function toggleRecording() {
  const button = byId("record");
  const status = byId("record-status");
  status.textContent = "";
  try {
    if (endRecording) {
      const end = endRecording;
      endRecording = null;
      addClip(`recording-${++numRecordings}.wav`, await dataUri(await end()));
    } else {
      endRecording = await record();
      recordingSince = performance.now();
      status.textContent = "Recording …";
    }
  } catch (error) {
    status.textContent = error.message;
  }
  button.textContent = endRecording ? "Stop recording" : "Record";
  button.setAttribute("aria-pressed", String(endRecording !== null));
}

setInterval(() => {
  byId("record-time").textContent = endRecording ? `${((performance.now() - recordingSince) / 1000).toFixed(1)} s` : "";
}, 100);

async function addFiles() {
  for (const file of byId("upload").files) addClip(file.name, await dataUri(file));
  byId("upload").value = "";
}

function onInfo(info) {
  showDefaults(info);
  maxBodyBytes = info.limits.max_body_bytes;
  listener.hideNotice(info.notice ?? "");
  showVoices();
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  speak(readForm());
});
byId("text").addEventListener("input", () => paintLines());
byId("speaker").addEventListener("input", () => paintLines());
byId("example").addEventListener("click", () => {
  byId("text").value = EXAMPLE;
  paintLines();
});
byId("stop").addEventListener("click", () => listener.stop());
byId("upload").addEventListener("change", addFiles);
byId("record").addEventListener("click", toggleRecording);
byId("language").addEventListener("change", showCode);
byId("copy").addEventListener("click", copyCode);
byId("download-other").addEventListener("click", download);
byId("enter-key").addEventListener("click", async () => {
  await ask("info", { askForKey: needKey }).catch(() => {});
});
document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("form").requestSubmit();
  if (event.key === "Escape") listener.stop();
});
offerKeeping((clip) => keepVoice(clip, needKey));
paintLines();
watchHealth(onInfo);
