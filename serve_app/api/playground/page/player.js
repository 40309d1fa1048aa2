// Plays samples while they arrive. A small cushion covers their jitter.

const CUSHION_SECONDS = 0.12;
const LEAD_SECONDS = 0.02;

export class Player {
  #context = null;
  #sources = new Set();
  #waiting = []; // buffers that are not scheduled yet: the cushion is filling
  #next = null; // when the next sample is due; null while the cushion fills
  #scheduledSeconds = 0;
  #hasAll = true;
  underruns = 0;

  /** Begin a new sound. Call it from a click or a key: browsers allow no sound before one. */
  start(rate) {
    this.stop();
    // At the sound's own rate the pieces join without a click, as none of them is resampled by itself.
    if (this.#context?.sampleRate !== rate) {
      this.#context?.close();
      this.#context = new AudioContext({ sampleRate: rate });
    }
    this.#context.resume();
    this.#hasAll = false;
    this.#scheduledSeconds = 0;
    this.underruns = 0;
  }

  push(samples, rate) {
    this.check();
    const buffer = this.#context.createBuffer(1, samples.length, rate);
    const channel = buffer.getChannelData(0);
    for (let n = 0; n < samples.length; n++) channel[n] = samples[n] / 32768;
    if (this.#next === null) this.#waiting.push(buffer);
    else this.#schedule(buffer);
    if (this.#next === null && this.#waitingSeconds >= CUSHION_SECONDS) this.#play();
  }

  /** Nothing follows. */
  end() {
    this.#hasAll = true;
    if (this.#next === null) this.#play();
  }

  stop() {
    for (const source of this.#sources) source.stop();
    this.#sources.clear();
    this.#waiting = [];
    this.#next = null;
    this.#hasAll = true;
  }

  /** Notes an underrun as it happens. Call it often. */
  check() {
    if (this.#next === null || this.#hasAll || this.#context.currentTime < this.#next) return;
    this.underruns += 1;
    this.#next = null;
  }

  get isPlaying() {
    return !this.#hasAll || (this.#next !== null && this.#context.currentTime < this.#next);
  }

  /** Seconds that are here and not heard yet. */
  get bufferedSeconds() {
    return this.#waitingSeconds + this.#unheardSeconds;
  }

  /** Seconds of the sound that were heard. */
  get position() {
    return this.#scheduledSeconds - this.#unheardSeconds;
  }

  get #waitingSeconds() {
    return this.#waiting.reduce((sum, buffer) => sum + buffer.duration, 0);
  }

  get #unheardSeconds() {
    return this.#next === null ? 0 : Math.max(0, this.#next - this.#context.currentTime);
  }

  #play() {
    this.#next = this.#context.currentTime + LEAD_SECONDS;
    for (const buffer of this.#waiting.splice(0)) this.#schedule(buffer);
  }

  #schedule(buffer) {
    const source = new AudioBufferSourceNode(this.#context, { buffer });
    source.connect(this.#context.destination);
    source.onended = () => this.#sources.delete(source);
    source.start(this.#next);
    this.#sources.add(source);
    this.#next += buffer.duration;
    this.#scheduledSeconds += buffer.duration;
  }
}
