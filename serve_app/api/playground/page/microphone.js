// Records from the microphone.

import { wavBlob } from "./wav.js";

const RATE = 24000;

/** Starts to record. Returns a function that ends it and returns the recording as a WAV file. Raises in words. */
export async function record() {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers record only on pages from this machine or over https. Upload a file instead.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    throw new Error(error.name === "NotFoundError" ? "There is no microphone." : "The browser does not allow the microphone.");
  }
  const recorder = new MediaRecorder(stream);
  const pieces = [];
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  const ended = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  return async () => {
    recorder.stop();
    await ended;
    for (const track of stream.getTracks()) track.stop();
    return asWav(await new Blob(pieces, { type: recorder.mimeType }).arrayBuffer());
  };
}

/** WAV, since what recorders write lacks the length and does not play everywhere. */
async function asWav(bytes) {
  const sound = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
  const samples = new Int16Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const data = sound.getChannelData(channel);
    for (let n = 0; n < data.length; n++) {
      const value = samples[n] + (data[n] * 32767) / sound.numberOfChannels;
      samples[n] = Math.max(-32768, Math.min(32767, Math.round(value)));
    }
  }
  return wavBlob(samples, RATE);
}
