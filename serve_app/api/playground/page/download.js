// Other formats than WAV: the server speaks the same request again, with the same seed.

import { ask } from "./server.js";

const byId = (id) => document.getElementById(id);

/** Saves the speech of `take` in the format that is chosen. Raises ServerError. */
export async function downloadAs(take, askForKey) {
  const format = byId("other-format").value;
  const json = { ...take.request, format, streaming: false };
  const blob = await (await ask("generate", { json, askForKey })).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `speech.${format === "opus" ? "ogg" : format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
