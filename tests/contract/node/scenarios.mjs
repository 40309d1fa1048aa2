// node scenarios.mjs NAME: one use of fal's JavaScript client; what came of it is the last line, in JSON.
import { ApiError, fal, ValidationError } from "@fal-ai/client";

const SERVER = process.env.SERVER;
const APP = "fal-ai/csm-1b";
const say = (text, more = {}) => ({ scene: [{ text, speaker_id: 0 }], ...more });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const HOSTS = {
  "https://fal.run": "run",
  "https://queue.fal.run": "queue",
  "https://rest.fal.ai": "rest",
  "https://v3.fal.media": "cdn",
};
const rewrite = (url) =>
  Object.entries(HOSTS).reduce((u, [host, surface]) => u.replace(`${host}/`, `${SERVER}/fal/${surface}/`), url);
const WAYS = {
  proxy: { proxyUrl: { url: `${SERVER}/api/fal/proxy`, when: "always" } },
  middleware: { requestMiddleware: async (request) => ({ ...request, url: rewrite(request.url) }) },
  fetch: { fetch: (url, options) => fetch(rewrite(url.toString()), options) },
};
fal.config({ credentials: "id:secret", ...WAYS[process.env.WAY ?? "proxy"] });

async function caught(promise) {
  try {
    await promise;
  } catch (error) {
    return {
      kind: error.constructor.name,
      isApiError: error instanceof ApiError,
      status: error.status,
      message: error.message,
      body: error.body,
      requestId: error.requestId,
      timeoutType: error.timeoutType,
      places: error instanceof ValidationError ? error.fieldErrors.map((field) => field.loc) : undefined,
      text: error instanceof ValidationError ? error.getFieldErrors("text") : undefined,
    };
  }
  return null;
}

const SCENARIOS = {
  async run() {
    return await fal.run(APP, { input: say("one two three"), startTimeout: 30 });
  },
  async subscribe() {
    const updates = [];
    const result = await fal.subscribe(APP, {
      input: say("one two three"),
      logs: true,
      pollInterval: 20,
      onQueueUpdate: (update) => updates.push(update),
    });
    return { ...result, updates };
  },
  async subscribeStreaming() {
    const updates = [];
    const result = await fal.subscribe(APP, {
      input: say("one two three"),
      logs: true,
      mode: "streaming",
      onQueueUpdate: (update) => updates.push({ status: update.status, logs: update.logs?.length }),
    });
    return { ...result, updates };
  },
  async cancel() {
    const { request_id } = await fal.queue.submit(APP, { input: say("wait for it waitforever"), priority: "low" });
    let status;
    do {
      await sleep(20);
      status = await fal.queue.status(APP, { requestId: request_id });
    } while (status.status !== "IN_PROGRESS");
    await fal.queue.cancel(APP, { requestId: request_id });
    await fal.queue.subscribeToStatus(APP, { requestId: request_id, pollInterval: 20 });
    return { status, error: await caught(fal.queue.result(APP, { requestId: request_id })) };
  },
  async timeout() {
    return await caught(fal.subscribe(APP, { input: say("too slow waitforever"), timeout: 300, pollInterval: 50 }));
  },
  async startTimeout() {
    return await caught(fal.run(APP, { input: say("in line stayqueued"), startTimeout: 2 }));
  },
  async invalid() {
    return await caught(fal.run(APP, { input: { scene: [{ speaker_id: 0 }] } }));
  },
  async failed() {
    return await caught(fal.run(APP, { input: say("it breaks breakdown") }));
  },
  async unknown() {
    return await caught(fal.queue.status(APP, { requestId: "00000000-0000-0000-0000-000000000000" }));
  },
  async otherApp() {
    return await caught(fal.run("fal-ai/flux", { input: say("hi") }));
  },
  async upload() {
    const sound = new Blob([Buffer.from(process.env.CLIP, "base64")], { type: "audio/wav" });
    const url = await fal.storage.upload(new File([sound], "clip.wav", { type: "audio/wav" }), {
      lifecycle: { expiresIn: "1h" },
    });
    const context = [{ prompt: "Before.", speaker_id: 3, audio_url: sound }];
    const result = await fal.subscribe(APP, { input: say("after", { context }), pollInterval: 20 });
    return { url, data: result.data };
  },
  async uploadInParts() {
    const size = 91 * 1024 * 1024;
    const url = await fal.storage.upload(new File([new Uint8Array(size).fill(7)], "large.bin"));
    const head = await fetch(url, { method: "HEAD" });
    return { url, size, length: Number(head.headers.get("content-length")) };
  },
  async stream() {
    const stream = await fal.stream(APP, { input: say("one two three") });
    const events = [];
    for await (const event of stream) events.push(event);
    return { events, done: await stream.done(), requestId: stream.requestId };
  },
  async streamByClient() {
    const stream = await fal.stream(APP, { input: say("one two"), connectionMode: "client" });
    return { done: await stream.done() };
  },
  async brokenStream() {
    const stream = await fal.stream(APP, { input: say("it breaks breakdown") });
    return await caught(stream.done());
  },
  async realtime() {
    const Native = globalThis.WebSocket;
    globalThis.WebSocket = class extends Native {
      constructor(url) {
        super(url.replace("wss://fal.run/", `${SERVER.replace("http", "ws")}/fal/run/`));
      }
    };
    const results = [];
    const errors = [];
    await new Promise((resolve) => {
      const connection = fal.realtime.connect(APP, {
        connectionKey: "test",
        throttleInterval: 0,
        onResult: (result) => {
          results.push(result.audio ?? result.audio_chunk.length);
          if (result.audio) connection.send({ scene: [] });
        },
        onError: (error) => {
          errors.push(error.message);
          connection.close();
          resolve();
        },
      });
      connection.send(say("one two three"));
    });
    return { results, errors };
  },
};

console.log(JSON.stringify(await SCENARIOS[process.argv[2]]()));
process.exit(0);
