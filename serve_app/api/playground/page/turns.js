// Marks where each turn begins, in the picture and in a list, and which one is heard.

import { element } from "./elements.js";
import { colourOf } from "./script.js";

const list = document.getElementById("turns");
const ticks = document.getElementById("ticks");
const MOST_CHARS = 70;
let shown = []; // seconds at which the turns in the list begin

/** Shows the turns of `request` that begin at the seconds `starts`. A single turn has no marks. */
export function showTurns(request, starts = []) {
  const turns = (request?.scene ?? []).slice(0, starts.length);
  shown = turns.map((_, index) => starts[index]);
  list.hidden = !turns.length;
  list.replaceChildren(...turns.map((turn, index) => item(turn, starts[index])));
  ticks.replaceChildren(...turns.map((turn) => element("div", { className: colourOf(turn.speaker) })));
}

/** Puts the ticks into a picture that is `span` seconds wide, and marks the turn heard at `seconds`, if one is. */
export function moveTurns(span, seconds) {
  const width = ticks.clientWidth;
  [...ticks.children].forEach((tick, index) => (tick.style.transform = `translateX(${(shown[index] / span) * width}px)`));
  const heard = seconds === undefined ? -1 : shown.findLastIndex((start) => start <= seconds);
  [...list.children].forEach((line, index) => {
    if (index === heard) line.setAttribute("aria-current", "true");
    else line.removeAttribute("aria-current");
  });
}

function item({ text, speaker }, start) {
  const excerpt = text.length > MOST_CHARS ? `${text.slice(0, MOST_CHARS)} …` : text;
  const line = element("li", { className: colourOf(speaker) });
  line.append(element("span", { className: "hint", textContent: `${start.toFixed(2)} s, speaker ${speaker}: ` }), excerpt);
  return line;
}
