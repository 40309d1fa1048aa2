// The short-time Fourier transform of the spectrogram.

export const WINDOW = 512;
const HALF = WINDOW / 2;
const hann = Float64Array.from({ length: WINDOW }, (_, n) => (0.5 - 0.5 * Math.cos((2 * Math.PI * n) / WINDOW)) / (32768 * WINDOW / 4));
const cosines = Float64Array.from({ length: HALF }, (_, n) => Math.cos((2 * Math.PI * n) / WINDOW));
const sines = Float64Array.from({ length: HALF }, (_, n) => -Math.sin((2 * Math.PI * n) / WINDOW));
const reversed = Uint16Array.from({ length: WINDOW }, (_, n) => parseInt(n.toString(2).padStart(9, "0").split("").reverse().join(""), 2));

/** The power of each frequency in the window from sample `from` on, 1 for a sine of full scale. Outside is silence. */
export function powers(samples, from) {
  const re = new Float64Array(WINDOW);
  const im = new Float64Array(WINDOW);
  for (let n = 0; n < WINDOW; n++) re[reversed[n]] = (samples[from + n] ?? 0) * hann[n];
  for (let size = 2; size <= WINDOW; size *= 2) {
    const step = WINDOW / size;
    for (let start = 0; start < WINDOW; start += size) {
      for (let n = 0; n < size / 2; n++) {
        const [a, b] = [start + n, start + n + size / 2];
        const x = re[b] * cosines[n * step] - im[b] * sines[n * step];
        const y = re[b] * sines[n * step] + im[b] * cosines[n * step];
        [re[b], im[b]] = [re[a] - x, im[a] - y];
        [re[a], im[a]] = [re[a] + x, im[a] + y];
      }
    }
  }
  return Float64Array.from({ length: HALF }, (_, n) => re[n] * re[n] + im[n] * im[n]);
}
