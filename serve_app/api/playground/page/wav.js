// WAV, 16 bit mono: read while it arrives, and written.

const HEADER_BYTES = 44;

/** Yields {rate, samples} for each piece of a streamed WAV. `samples` is an Int16Array. Throws if the header is another. */
export async function* wavPieces(body) {
  const reader = body.getReader();
  let rest = new Uint8Array(0);
  let rate = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    let bytes = new Uint8Array(rest.length + value.length);
    bytes.set(rest);
    bytes.set(value, rest.length);
    if (!rate && bytes.length >= HEADER_BYTES) {
      rate = rateOf(bytes);
      bytes = bytes.slice(HEADER_BYTES);
    }
    // A piece may end inside of a sample.
    const whole = rate ? bytes.length - (bytes.length % 2) : 0;
    rest = bytes.slice(whole);
    if (whole) yield { rate, samples: new Int16Array(bytes.slice(0, whole).buffer) };
  }
}

function rateOf(bytes) {
  const header = new DataView(bytes.buffer);
  const isOurs = header.getUint32(0) === 0x52494646 && header.getUint16(22, true) === 1 && header.getUint16(34, true) === 16;
  if (!isOurs) throw new Error("The server sent something else than a WAV file of 16 bit mono.");
  return header.getUint32(24, true);
}

/** A WAV file of Int16 samples. */
export function wavBlob(samples, rate) {
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  const dataBytes = samples.length * 2;
  const words = [[0, 0x52494646], [8, 0x57415645], [12, 0x666d7420], [36, 0x64617461]];
  for (const [at, word] of words) header.setUint32(at, word);
  for (const [at, value] of [[4, 36 + dataBytes], [16, 16], [24, rate], [28, rate * 2], [40, dataBytes]])
    header.setUint32(at, value, true);
  for (const [at, value] of [[20, 1], [22, 1], [32, 2], [34, 16]]) header.setUint16(at, value, true);
  return new Blob([header, samples], { type: "audio/wav" });
}

/** Samples that grow. */
export class Recording {
  #samples = new Int16Array(1 << 18);
  length = 0;
  rate = 24000;

  add({ rate, samples }) {
    this.rate = rate;
    if (this.length + samples.length > this.#samples.length) {
      const larger = new Int16Array(2 * (this.length + samples.length));
      larger.set(this.samples);
      this.#samples = larger;
    }
    this.#samples.set(samples, this.length);
    this.length += samples.length;
  }

  get samples() {
    return this.#samples.subarray(0, this.length);
  }

  get seconds() {
    return this.length / this.rate;
  }
}
