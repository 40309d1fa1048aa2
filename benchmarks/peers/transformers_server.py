"""What people write first: transformers' `generate` behind FastAPI, one request at a time, each answered whole.

    python -m benchmarks.peers.transformers_server --model FOLDER --port 9000

Answers vox-serve's form and JSON; `streaming` changes nothing, since `generate` gives its audio at the end. A text may
take as long to say as on our server. Prompts go through transformers' own processor, on PyTorch's default threads.
"""

import argparse
import asyncio
from typing import Any

import numpy as np
import torch
import transformers
import uvicorn
from fastapi import FastAPI, Request, Response
from transformers import AutoProcessor, CsmForConditionalGeneration

from serve_app.audio.wav import wav_file
from serve_app.speech.text.duration import frame_cap
from serve_app.speech.text.word_count import spoken_words

_SAMPLING = {"do_sample": True, "temperature": 0.9, "top_k": 50}


class TransformersSpeech:
    def __init__(self, folder: str, device: str) -> None:
        self._processor: Any = AutoProcessor.from_pretrained(folder)
        self._model: Any = CsmForConditionalGeneration.from_pretrained(folder)
        self._model.to(device)
        config = self._model.config
        # Untrained weights would pick ids that are no codes, on which the codec fails.
        reserved = list(range(config.codec_config.codebook_size, config.vocab_size))
        knobs = _SAMPLING | {"suppress_tokens": reserved}
        self._knobs = knobs | {f"depth_decoder_{name}": value for name, value in knobs.items()}

    def speak(self, text: str, speaker: str) -> bytes:
        """A whole WAV."""
        inputs = self._processor(f"[{speaker}]{text}", add_special_tokens=True).to(self._model.device)
        with torch.inference_mode():
            [audio] = self._model.generate(
                **inputs, output_audio=True, max_new_tokens=frame_cap(spoken_words(text)), **self._knobs
            )
        samples = audio.float().cpu().numpy().clip(-1, 1) * 32767
        return wav_file(samples.astype(np.int16).tobytes())


def build_app(speech: TransformersSpeech) -> FastAPI:
    app = FastAPI()
    turn = asyncio.Lock()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.post("/generate")
    async def generate(request: Request) -> Response:
        is_json = request.headers.get("content-type", "").startswith("application/json")
        fields: Any = await request.json() if is_json else await request.form()
        # `generate` keeps state in the model: two at once would mix.
        async with turn:
            wav = await asyncio.to_thread(speech.speak, str(fields["text"]), str(fields.get("speaker", 0)))
        return Response(wav, media_type="audio/wav")

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a checkpoint's folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    speech = TransformersSpeech(options.model, options.device)
    uvicorn.run(build_app(speech), host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
