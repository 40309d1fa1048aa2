// Waveform and spectrogram of a recording, drawn as it grows.

import { powers, WINDOW } from "./fourier.js";

const FIRST_SPAN_SECONDS = 6;
const TOP_HZ = 8000;
const QUIETEST_DB = -70;
const LOUDEST_DB = -15;

export class Picture {
  #recording = null;
  #span = FIRST_SPAN_SECONDS;
  #drawn = 0; // columns

  constructor(wave, spectrogram, playhead) {
    this.wave = wave;
    this.spectrogram = spectrogram;
    this.playhead = playhead;
    new ResizeObserver(() => this.#again()).observe(wave);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#again());
  }

  show(recording) {
    this.#recording = recording;
    this.#span = FIRST_SPAN_SECONDS;
    this.playhead.hidden = true;
    this.#again();
  }

  /** Draw what was added. */
  update() {
    const recording = this.#recording;
    if (!recording || !this.wave.width) return;
    // Doubling, so that everything is drawn again a few times only.
    if (recording.seconds > this.#span) {
      while (recording.seconds > this.#span) this.#span *= 2;
      return this.#again();
    }
    const perColumn = (this.#span * recording.rate) / this.wave.width;
    const end = Math.floor(recording.length / perColumn);
    for (; this.#drawn < end; this.#drawn++) {
      this.#drawWave(this.#drawn, perColumn);
      this.#drawSpectrum(this.#drawn, perColumn);
    }
  }

  /** Seconds that the picture is wide. */
  get span() {
    return this.#span;
  }

  /** Puts the playhead at `seconds`; undefined hides it. */
  move(seconds) {
    this.playhead.hidden = seconds === undefined;
    const share = Math.min(1, (seconds ?? 0) / this.#span);
    this.playhead.style.transform = `translateX(${share * this.wave.clientWidth}px)`;
  }

  #again() {
    for (const canvas of [this.wave, this.spectrogram]) {
      canvas.width = Math.round(canvas.clientWidth * Math.min(2, devicePixelRatio));
      canvas.height = Math.round(canvas.clientHeight * Math.min(2, devicePixelRatio));
    }
    const style = getComputedStyle(this.wave);
    const stops = ["--quiet-sound", "--loud-sound", "--loudest-sound"].map((name) => style.getPropertyValue(name).trim());
    this.wavePen = this.wave.getContext("2d");
    this.wavePen.fillStyle = stops[1];
    this.spectrumPen = this.spectrogram.getContext("2d");
    this.colours = shades(stops);
    this.#drawn = 0;
    this.update();
  }

  #drawWave(column, perColumn) {
    const { samples } = this.#recording;
    let [low, high] = [0, 0];
    for (let n = Math.floor(column * perColumn); n < (column + 1) * perColumn && n < samples.length; n++) {
      low = Math.min(low, samples[n]);
      high = Math.max(high, samples[n]);
    }
    const middle = this.wave.height / 2;
    const top = middle - (high / 32768) * middle;
    this.wavePen.fillRect(column, top, 1, Math.max(1, ((high - low) / 32768) * middle));
  }

  #drawSpectrum(column, perColumn) {
    const { samples, rate } = this.#recording;
    const spectrum = powers(samples, Math.round((column + 0.5) * perColumn - WINDOW / 2));
    const height = this.spectrogram.height;
    const image = this.spectrumPen.createImageData(1, height);
    for (let y = 0; y < height; y++) {
      const bin = Math.round((((height - 1 - y) / height) * TOP_HZ * WINDOW) / rate);
      const level = (10 * Math.log10(spectrum[bin] + 1e-12) - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB);
      image.data.set(this.colours[Math.round(255 * Math.min(1, Math.max(0, level)))], 4 * y);
    }
    this.spectrumPen.putImageData(image, column, 0);
  }
}

/** 256 colours, as RGBA, from the first of three `stops` (#rgb or #rrggbb) to the last. */
function shades(stops) {
  const [from, middle, to] = stops.map((stop) => {
    const digits = stop.length === 4 ? stop.replace(/[^#]/g, "$&$&") : stop;
    return [1, 3, 5].map((at) => parseInt(digits.slice(at, at + 2), 16));
  });
  return Array.from({ length: 256 }, (_, index) => {
    const [a, b, share] = index < 160 ? [from, middle, index / 160] : [middle, to, (index - 160) / 95];
    return [...a.map((value, n) => value + (b[n] - value) * share), 255];
  });
}
