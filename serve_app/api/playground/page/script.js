// A text as people write scenes: "1: Hi." gives a line, and those below it without a number, to speaker 1.

const NUM_COLOURS = 6;
// A space must follow the colon: "10:30 is late" is no speaker 10.
const TURN = /^\s*(\d{1,9})\s*:(?:\s+(.*))?$/;

/** The turns of `script`, each with its speaker, text, and the indexes of its first and last line. */
export function turnsOf(script, firstSpeaker) {
  const turns = [];
  script.split("\n").forEach((line, index) => {
    const [, speaker, text = ""] = TURN.exec(line) ?? [];
    if (speaker !== undefined) turns.push({ speaker: number(speaker), text, first: index, last: index });
    else if (turns.length) Object.assign(turns.at(-1), { text: `${turns.at(-1).text}\n${line}`, last: index });
    else if (line.trim()) turns.push({ speaker: number(firstSpeaker), text: line, first: index, last: index });
  });
  return turns.map((turn) => ({ ...turn, text: turn.text.trim() }));
}

/** The fields of a request that say what to speak: `text` and `speaker` for one turn, `scene` for several. */
export function spokenFields(turns, firstSpeaker) {
  if (turns.length > 1) return { scene: turns.map(({ text, speaker }) => ({ text, speaker })) };
  return { text: turns[0]?.text ?? "", speaker: turns[0]?.speaker ?? number(firstSpeaker) };
}

/** The script that `spokenFields` came from. */
export function scriptOf(request) {
  if (!request.scene) return request.text;
  return request.scene.map(({ text, speaker }) => `${speaker}: ${text}`).join("\n");
}

/** The class of a speaker's colour. */
export function colourOf(speaker) {
  const index = Number(speaker);
  return `s${Number.isSafeInteger(index) && index >= 0 ? index % NUM_COLOURS : 0}`;
}

/** `typed` as a JSON number. Where that would change it, or it is none, the string, which the server reads or refuses. */
export function number(typed) {
  const trimmed = typed.trim();
  return String(Number(trimmed)) === trimmed ? Number(trimmed) : trimmed;
}
