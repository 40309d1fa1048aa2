// Streams speech with JavaScript's own fetch. In a browser, play each piece; here they are counted and kept.
import { writeFile } from "node:fs/promises";

const server = process.env.CSM_URL ?? "http://localhost:8000";
const answer = await fetch(`${server}/generate`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ text: "Hello, how are you?", streaming: true, format: "pcm" }),
});
if (!answer.ok) throw new Error((await answer.json()).detail);

const began = performance.now();
const pieces = [];
for await (const piece of answer.body) {
  if (!pieces.length) console.log(`first audio after ${Math.round(performance.now() - began)} ms`);
  pieces.push(piece);
}
await writeFile("stream.pcm", Buffer.concat(pieces)); // 24 kHz, mono, signed 16 bit
