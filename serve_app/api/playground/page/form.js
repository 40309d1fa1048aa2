// Reads a request from the form, and writes one into it.

import { clipNames, clips, showClips } from "./clips.js";
import { colourOf, number, scriptOf, spokenFields, turnsOf } from "./script.js";
import { chooseVoice, chosenVoice } from "./voices.js";

const byId = (id) => document.getElementById(id);
const SETTINGS = ["temperature", "top_k", "seed", "max_audio_seconds"];

/** {request, names}: the body of POST /generate, and the names of the context's files. */
export function readForm() {
  const speaker = byId("speaker").value;
  const request = spokenFields(turnsOf(byId("text").value, speaker), speaker);
  const context = clips();
  if (context.length) request.context = context;
  if (chosenVoice()) request.voice = chosenVoice();
  for (const name of SETTINGS) if (byId(name).value.trim()) request[name] = number(byId(name).value);
  if (!byId("normalize").checked) request.normalize = false;
  return { request, names: clipNames() };
}

export function fillForm({ request, names }) {
  byId("text").value = scriptOf(request);
  byId("speaker").value = request.speaker ?? 0;
  for (const name of SETTINGS) byId(name).value = request[name] ?? "";
  byId("normalize").checked = request.normalize ?? true;
  chooseVoice(request.voice);
  showClips(request.context ?? [], names);
  byId("settings").open = true;
  paintLines();
  byId("text").focus();
}

/** Colours the lines of each turn. `wrong` is the number of a turn to mark. */
export function paintLines(wrong) {
  const lines = byId("text").value.split("\n").map((text) => {
    const line = document.createElement("div");
    line.textContent = text;
    return line;
  });
  turnsOf(byId("text").value, byId("speaker").value).forEach((turn, index) => {
    for (const line of lines.slice(turn.first, turn.last + 1)) {
      line.className = colourOf(turn.speaker);
      line.classList.toggle("wrong", index === wrong);
    }
  });
  byId("lines").replaceChildren(...lines);
}

export function showDefaults({ sampling, limits }) {
  byId("temperature").placeholder = sampling.temperature;
  byId("top_k").placeholder = sampling.top_k;
  byId("max_audio_seconds").placeholder = limits.max_audio_seconds;
}
