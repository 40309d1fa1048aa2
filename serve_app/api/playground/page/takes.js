// What was spoken, newest first. The session's storage keeps what it takes to speak it again.

import { element } from "./elements.js";
import { scriptOf } from "./script.js";

const STORED = "csm-history";
const MOST = 20;
const MOST_HEARD = 5; // whose sound is kept: a minute takes 3 MB
const MOST_STORED_CHARS = 200_000; // of all takes: clips are left out

/** A take: {request, names, recording, starts}. `request` has the seed; the last two are undefined after a reload. */
export class History {
  #takes = [];

  /** `actions`: play, again, edit; each gets the take. */
  constructor(actions) {
    this.actions = actions;
    try {
      this.#takes = JSON.parse(sessionStorage.getItem(STORED)) ?? [];
    } catch {
      // Not ours, or cut off: begin anew.
    }
    this.#show();
  }

  add(take) {
    this.#takes.unshift(take);
    this.#takes.splice(MOST);
    for (const old of this.#takes.slice(MOST_HEARD)) delete old.recording;
    this.#show();
    this.#store();
  }

  #store() {
    let chars = 0;
    const kept = [];
    for (const { request, names } of this.#takes) {
      if (names.length) continue;
      chars += JSON.stringify(request).length;
      if (chars < MOST_STORED_CHARS) kept.push({ request, names });
    }
    sessionStorage.setItem(STORED, JSON.stringify(kept));
  }

  #show() {
    document.getElementById("history-section").hidden = !this.#takes.length;
    document.getElementById("history").replaceChildren(...this.#takes.map((take) => this.#item(take)));
  }

  #item(take) {
    const script = scriptOf(take.request).replaceAll("\n", " / ");
    const excerpt = script.length > 90 ? `${script.slice(0, 88)} …` : script;
    const length = take.recording ? `, ${take.recording.seconds.toFixed(1)} s` : "";
    const text = element("p", {}, excerpt, element("br"));
    text.append(element("span", { className: "hint", textContent: `seed ${take.request.seed}${length}` }));
    const row = element("p", { className: "row" });
    if (take.recording) row.append(this.#button("Play", "play", take, excerpt));
    row.append(this.#button("Speak again", "again", take, excerpt), this.#button("Edit", "edit", take, excerpt));
    return element("li", {}, text, row);
  }

  #button(label, action, take, excerpt) {
    const button = element("button", { type: "button", textContent: label, onclick: () => this.actions[action](take) });
    button.setAttribute("aria-label", `${label}: ${excerpt}`);
    return button;
  }
}
