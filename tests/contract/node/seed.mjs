// The code of fal's page on this model, as printed there; the one line that is ours names the server.
import { fal } from "@fal-ai/client";

fal.config({ credentials: "id:secret", proxyUrl: { url: `${process.env.SERVER}/api/fal/proxy`, when: "always" } });

{
const result = await fal.subscribe("fal-ai/csm-1b", {
  input: {
    scene: [{
      text: "Hey how are you doing.",
      speaker_id: 0
    }, {
      text: "Pretty good, pretty good.",
      speaker_id: 1
    }, {
      text: "I'm great, so happy to be speaking to you.",
      speaker_id: 0
    }]
  },
  logs: true,
  onQueueUpdate: (update) => {
    if (update.status === "IN_PROGRESS") {
      update.logs.map((log) => log.message).forEach(console.log);
    }
  },
});
console.log(result.data);
console.log(result.requestId);
}

const { request_id } = await fal.queue.submit("fal-ai/csm-1b", {
  input: {
    scene: [{
      text: "Hey how are you doing.",
      speaker_id: 0
    }, {
      text: "Pretty good, pretty good.",
      speaker_id: 1
    }, {
      text: "I'm great, so happy to be speaking to you.",
      speaker_id: 0
    }]
  },
  webhookUrl: process.env.WEBHOOK,
});

let status;
do {
status = await fal.queue.status("fal-ai/csm-1b", {
  requestId: request_id,
  logs: true,
});
} while (status.status !== "COMPLETED");

const result = await fal.queue.result("fal-ai/csm-1b", {
  requestId: request_id
});
console.log(result.data);
console.log(result.requestId);

const file = new File(["Hello, World!"], "hello.txt", { type: "text/plain" });
const url = await fal.storage.upload(file);

console.log(JSON.stringify({ status: status.status, request_id, answered: result.requestId, data: result.data, url }));
