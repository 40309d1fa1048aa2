// The context: recordings, each with its speaker and the words spoken in it.

import { element, labelled } from "./elements.js";
import { colourOf, number } from "./script.js";

const list = document.getElementById("clips");
let keep = async () => false; // what keeps a clip as a voice
const sent = new WeakMap(); // of a list item: its file as a data URI, and its name

/** `keepAsVoice(clip)` is called with a clip that its user wants kept, and tells whether it was. */
export function offerKeeping(keepAsVoice) {
  keep = keepAsVoice;
}

export function addClip(name, audio, { text = "", speaker = 0 } = {}) {
  const title = element("strong", { textContent: name });
  const words = element("input", { value: text });
  const who = element("input", { value: String(speaker), inputMode: "numeric" });
  const player = element("audio", { controls: true, src: URL.createObjectURL(blobOf(audio)) });
  const save = element("a", { className: "button", textContent: "Save", href: player.src, download: name });
  const remove = element("button", { type: "button", textContent: "Remove" });
  const item = element("li", {}, title, player, labelled("Words spoken in it", words), labelled("Speaker", who));
  const asVoice = element("button", { type: "button", textContent: "Keep as a voice" });
  item.append(element("p", { className: "row" }, save, asVoice, remove));
  words.dataset.part = "text";
  who.dataset.part = "speaker";
  player.dataset.part = "audio";
  player.setAttribute("aria-label", `Listen to ${name}`);
  remove.setAttribute("aria-label", `Remove ${name}`);
  asVoice.setAttribute("aria-label", `Keep as a voice: ${name}`);
  save.setAttribute("aria-label", `Save ${name}`);
  who.oninput = () => (item.className = colourOf(who.value));
  who.oninput();
  remove.onclick = () => {
    URL.revokeObjectURL(player.src);
    item.remove();
    document.getElementById("record").focus();
  };
  // A voice speaks for itself, so its clip need not be sent any more.
  asVoice.onclick = async () => (await keep({ text: words.value, audio })) && remove.onclick();
  sent.set(item, { name, audio });
  list.append(item);
  words.focus();
}

/** The field `context` of a request. */
export function clips() {
  return [...list.children].map((item) => ({
    text: item.querySelector("[data-part=text]").value,
    speaker: number(item.querySelector("[data-part=speaker]").value),
    audio: sent.get(item).audio,
  }));
}

export function clipNames() {
  return [...list.children].map((item) => sent.get(item).name);
}

export function showClips(context, names) {
  list.replaceChildren();
  context.forEach((clip, index) => addClip(names[index], clip.audio, clip));
}

/** The data URI of a file. */
export function dataUri(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function blobOf(uri) {
  const [head, data] = uri.split(",");
  const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  return new Blob([bytes], { type: head.slice(5).replace(";base64", "") });
}
