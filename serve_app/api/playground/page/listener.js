// One request at a time: sent, heard, drawn and measured.

import { Picture } from "./picture.js";
import { Player } from "./player.js";
import { number } from "./script.js";
import { ask, ServerError } from "./server.js";
import { Recording, wavBlob, wavPieces } from "./wav.js";

const RATE = 24000;
const TICK_MS = 60;
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
      const made = await this.#receive(response, recording, began, controller);
      if (made === null && !recording.length) return null;
      if (made !== null) say(`Spoken: ${recording.seconds.toFixed(2)} s of audio in ${made.toFixed(2)} s.${await this.#remarks(response)}`);
      return { request: { ...request, seed }, names, recording };
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
  play({ recording, request }) {
    this.stop();
    this.#begin(recording);
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

  /** How it ended, and what the server says of the request. */
  async #remarks(response) {
    const notices = (response.headers.get("X-CSM-Notice") ?? "").replace(this.#notice, "").replace(/^; /, "");
    const said = [notices, response.headers.get("X-CSM-Text-Notice")].filter(Boolean).map((text) => ` ${text}.`);
    try {
      const outcome = await (await ask(`requests/${response.headers.get("X-CSM-Request-Id")}`)).json();
      return (ENDINGS[outcome.finish_reason] ?? "") + said.join("");
    } catch {
      // Another replica made it: how it ended is not known here.
      return said.join("");
    }
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
    this.#picture.move(this.#player.isPlaying ? this.#player.position : undefined);
    byId("stop").disabled = !this.isBusy;
    if (!this.#recording.length) return;
    byId("length").textContent = `${this.#recording.seconds.toFixed(2)} s`;
    byId("buffer").textContent = `${this.#player.bufferedSeconds.toFixed(2)} s`;
    byId("underruns").textContent = this.#player.underruns;
  }
}

function say(text) {
  byId("status").textContent = text;
}
