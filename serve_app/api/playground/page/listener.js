// One request at a time: sent, heard, drawn and measured.

import { Picture } from "./picture.js";
import { Player } from "./player.js";
import { number } from "./script.js";
import { ask, ServerError } from "./server.js";
import { moveTurns, showTurns } from "./turns.js";
import { Recording, wavBlob, wavPieces } from "./wav.js";

const RATE = 24000;
const TICK_MS = 60;
const MARKS_MS = 1000;
const STATS = ["first-audio", "rtf", "length", "buffer", "underruns", "used-seed"];
const ENDINGS = {
  length: " It reached the longest length that was allowed.",
  runaway: " It did not end by itself, so the server ended it.",
};
const byId = (id) => document.getElementById(id);

export class Listener {
  #player = new Player();
  #picture = new Picture(byId("wave"), byId("spectrogram"), byId("playhead"));
  #recording = new Recording();
  #request = null; // AbortController of the one that runs
  #notice = ""; // that of the weights, which the page shows anyway

  constructor() {
    setInterval(() => this.#tick(), TICK_MS);
  }

  hideNotice(notice) {
    this.#notice = notice;
  }

  /** Speaks {request, names}. Returns the take, whose request has the seed; null if it was stopped before any audio. */
  async speak({ request, names }, askForKey) {
    this.stop();
    const controller = (this.#request = new AbortController());
    const recording = this.#begin();
    this.#player.start(RATE);
    say("Waiting for the first audio …");
    // On a phone it lies below the form.
    byId("listen-heading").parentElement.scrollIntoView({ block: "nearest" });
    try {
      const began = performance.now();
      const json = { ...request, streaming: true };
      const response = await ask("generate", { json, signal: controller.signal, askForKey });
      const seed = number(response.headers.get("X-CSM-Seed"));
      byId("used-seed").textContent = seed;
      const marks = this.#followTurns(response, request, controller);
      const made = await this.#receive(response, recording, began, controller).finally(() => clearInterval(marks));
      if (made === null && !recording.length) return null;
      const outcome = await outcomeOf(response);
      if (recording === this.#recording) showTurns(request, outcome.turn_starts);
      if (made !== null) {
        const remarks = this.#remarks(response, outcome);
        say(`Spoken: ${recording.seconds.toFixed(2)} s of audio in ${made.toFixed(2)} s.${remarks}`);
      }
      return { request: { ...request, seed }, names, recording, starts: outcome.turn_starts };
    } catch (error) {
      if (controller.signal.aborted) return null;
      this.#player.end();
      say(recording.length ? "Broken off." : "Not spoken.");
      throw error;
    } finally {
      if (this.#request === controller) this.#request = null;
    }
  }

  /** Plays what was received before. */
  play({ recording, request, starts }) {
    this.stop();
    this.#begin(recording);
    showTurns(request, starts);
    byId("used-seed").textContent = request.seed;
    this.#player.start(RATE);
    this.#player.push(recording.samples, recording.rate);
    this.#player.end();
    this.#offer();
    say("Playing again.");
  }

  stop() {
    if (!this.isBusy) return;
    this.#request?.abort();
    this.#request = null;
    this.#player.stop();
    say(`Stopped after ${this.#recording.seconds.toFixed(2)} s.`);
  }

  get isBusy() {
    return this.#request !== null || this.#player.isPlaying;
  }

  #begin(recording = new Recording()) {
    this.#recording = recording;
    this.#picture.show(recording);
    showTurns();
    byId("download").hidden = true;
    for (const id of STATS) byId(id).textContent = "–";
    return recording;
  }

  /** Seconds until all of it was here; null if it was stopped. Raises ServerError if the stream breaks off. */
  async #receive(response, recording, began, controller) {
    const elapsed = () => (performance.now() - began) / 1000;
    try {
      for await (const piece of wavPieces(response.body)) {
        if (controller.signal.aborted) break;
        if (!recording.length) {
          byId("first-audio").textContent = `${Math.round(1000 * elapsed())} ms`;
          say("Speaking …");
        }
        recording.add(piece);
        this.#player.push(piece.samples, piece.rate);
        byId("rtf").textContent = (elapsed() / recording.seconds).toFixed(2);
      }
    } catch (error) {
      if (!controller.signal.aborted) {
        throw new ServerError(`The stream broke off after ${recording.seconds.toFixed(2)} s. What came can be saved.`, 0);
      }
    } finally {
      if (this.#recording === recording) this.#offer();
    }
    if (controller.signal.aborted) return null;
    this.#player.end();
    return elapsed();
  }

  /** The timer that shows the turns of a scene as they begin. */
  #followTurns(response, request, controller) {
    if (!request.scene) return undefined;
    return setInterval(async () => {
      const { turn_starts } = await outcomeOf(response);
      if (turn_starts && !controller.signal.aborted && this.#request === controller) showTurns(request, turn_starts);
    }, MARKS_MS);
  }

  /** How it ended, and what the server says of the request. */
  #remarks(response, outcome) {
    const notices = (response.headers.get("X-CSM-Notice") ?? "").replace(this.#notice, "").replace(/^; /, "");
    const said = [notices, response.headers.get("X-CSM-Text-Notice")].filter(Boolean).map((text) => ` ${text}.`);
    return (ENDINGS[outcome.finish_reason] ?? "") + said.join("");
  }

  #offer() {
    const link = byId("download");
    if (link.href) URL.revokeObjectURL(link.href);
    link.hidden = !this.#recording.length;
    link.href = URL.createObjectURL(wavBlob(this.#recording.samples, this.#recording.rate));
    link.download = "speech.wav";
  }

  #tick() {
    this.#player.check();
    this.#picture.update();
    const heard = this.#player.isPlaying ? this.#player.position : undefined;
    this.#picture.move(heard);
    moveTurns(this.#picture.span, heard);
    byId("stop").disabled = !this.isBusy;
    if (!this.#recording.length) return;
    byId("length").textContent = `${this.#recording.seconds.toFixed(2)} s`;
    byId("buffer").textContent = `${this.#player.bufferedSeconds.toFixed(2)} s`;
    byId("underruns").textContent = this.#player.underruns;
  }
}

/** What the server knows of the answer. Nothing where another replica made it. */
async function outcomeOf(response) {
  try {
    return await (await ask(`requests/${response.headers.get("X-CSM-Request-Id")}`)).json();
  } catch {
    return {};
  }
}

function say(text) {
  byId("status").textContent = text;
}
