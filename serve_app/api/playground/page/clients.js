// Programs for other clients than the server's own API. `body` is that of POST /generate, with places for files.

import { addressOf, hasKey } from "./server.js";

/** With OpenAI's client for Python. It knows one speaker and no scene, so a scene has no such program. */
export function openAi(body, files, write) {
  if (body.scene) return "# OpenAI's API speaks one text with one voice. For a scene choose another language.\n";
  const { text, speaker, voice, ...ours } = body;
  const key = hasKey() ? 'os.environ["CSM_KEY"]' : '"none"';
  const modules = [...(files.length ? ["base64"] : []), ...(hasKey() ? ["os"] : [])].map((name) => `import ${name}\n`);
  return `${modules.join("")}${modules.length ? "\n" : ""}from openai import OpenAI

${files.length ? READ : ""}client = OpenAI(base_url=${JSON.stringify(addressOf("v1"))}, api_key=${key})
with client.audio.speech.with_streaming_response.create(
    model="csm-1b",
    voice=${JSON.stringify(voice ?? String(speaker))},
    input=${JSON.stringify(text)},
    response_format="wav",
    extra_body=${write({ ...ours, stream: false }, "    ")},
) as speech:
    speech.stream_to_file("speech.wav")
`;
}

/** With fal's client for Python. */
export function fal(body, files, write) {
  const { text, speaker, voice, scene, context, temperature, top_k, seed, max_audio_seconds, normalize } = body;
  const turns = scene ?? [{ text, speaker }];
  const known = { temperature, top_k, seed, max_audio_seconds, normalize };
  const asked = {
    scene: turns.map((turn) => ({ text: turn.text, speaker_id: turn.speaker, ...(voice && { voice }) })),
    ...(context && { context: context.map((clip) => ({ prompt: clip.text, speaker_id: clip.speaker, audio_url: clip.audio })) }),
    ...Object.fromEntries(Object.entries(known).filter(([, value]) => value !== undefined)),
  };
  const key = hasKey() ? 'os.environ["FAL_KEY"] = os.environ["CSM_KEY"]' : 'os.environ.setdefault("FAL_KEY", "none:none")';
  return `import os
import urllib.request

${key}
import fal_client
import fal_client.client as c

server = ${JSON.stringify(addressOf("fal"))}
c.RUN_URL_FORMAT, c.QUEUE_URL_FORMAT = f"{server}/run/", f"{server}/queue/"
c.REST_URL, c.CDN_URL = f"{server}/rest", f"{server}/cdn"

answer = fal_client.subscribe("fal-ai/csm-1b", ${write(asked, "")})
urllib.request.urlretrieve(answer["audio"]["url"], "speech.wav")
`;
}

const READ = 'def audio(path: str) -> str:\n    return base64.b64encode(open(path, "rb").read()).decode()\n\n\n';
