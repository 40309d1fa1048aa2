// The voices that the server keeps: which one speaks, and keeping a clip as another one.

import { element } from "./elements.js";
import { ask } from "./server.js";

const byId = (id) => document.getElementById(id);
const select = byId("voice");
const dialog = byId("keep-dialog");

/** Lists them, and chooses the one called `chosen` if it is there. Where they may not be listed, there are none. */
export async function showVoices(chosen = select.value) {
  const voices = await ask("voices").then((answer) => answer.json(), () => ({ voices: [] }));
  const names = voices.voices.map((voice) => voice.name);
  const own = element("option", { value: "", textContent: "each speaker's own" });
  select.replaceChildren(own, ...names.map((name) => element("option", { value: name, textContent: name })));
  chooseVoice(chosen);
  byId("kept").hidden = !names.length;
}

export function chosenVoice() {
  return select.value;
}

/** Chooses a voice, or none if it is not kept any more. */
export function chooseVoice(name = "") {
  select.value = name;
  if (select.selectedIndex < 0) select.value = "";
}

/** Keeps `clip`, {text, audio}, as a voice that the user names. True if it was kept, false if the user thought better. */
export function keepVoice(clip, askForKey) {
  byId("keep-form").reset();
  byId("keep-failure").hidden = true;
  dialog.showModal();
  return new Promise((resolve) => {
    let isKept = false;
    byId("keep-form").onsubmit = async (event) => {
      event.preventDefault();
      isKept = await kept(clip, askForKey);
      if (isKept) dialog.close();
    };
    byId("keep-cancel").onclick = () => dialog.close();
    dialog.onclose = () => resolve(isKept);
  });
}

async function kept(clip, askForKey) {
  const name = byId("voice-name").value.trim();
  const consent = { statement: byId("consent").value, by: byId("consent-by").value };
  byId("keep").disabled = true;
  byId("keep-failure").hidden = true;
  try {
    const voice = await (await ask("voices", { json: { name, clips: [clip], consent }, askForKey })).json();
    await showVoices(name);
    byId("voice-status").textContent = `${name} is kept.${saidOf(voice.audition)}`;
    return true;
  } catch (error) {
    byId("keep-failure").textContent = error.message;
    byId("keep-failure").hidden = false;
    return false;
  } finally {
    byId("keep").disabled = false;
  }
}

function saidOf(audition) {
  if (!audition || audition.error) return "";
  return audition.passed ? " Its audition passed." : " Its audition failed: a longer or cleaner clip may help.";
}
