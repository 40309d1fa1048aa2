"""What fewer bits do to the model's answers: logits of each number format beside float32's, at the same places.

    python -m benchmarks.engine.quantization_error --preset small,csm-1b

The float32 model speaks; then every format is forced along those very codes after the same prompts. Reported over all
frames and codebooks: the cosine between the logits, its mean and its worst, and how often the favourite code is the
same. The steps are torch's plain operations, which every device has; one model is in memory at a time.

The weights are random, a stand-in for trained ones: they say whether the arithmetic is sound, and how the formats
compare. What a listener hears with trained weights they cannot say.
"""

import gc
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity

from benchmarks.engine.forced import spoken, widen
from benchmarks.engine.precision import PRECISIONS, Precision
from benchmarks.engine.prompts import Prompts, request_for
from benchmarks.engine.random_model import config_of, quantized_model
from benchmarks.engine.run import PRESETS, STEPS, AskedStep, Run, console, one_of, parser_for, refuse
from serve_app.engine.prompt import Prompt
from serve_app.engine.reference import forced_logits
from serve_app.engine.steps.choice import choose_step
from serve_app.errors import StartupError
from serve_app.model.presets import Preset

NOTE = "random weights, a stand-in for trained ones"
_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Yes.",
    "Nobody had told her that the last train leaves at nine on Sundays, so she walked.",
)
_CONTEXT_FRAMES = 40
_COMPARED = ("bf16", "int8", "int4", "fp8")
_COLUMNS = {
    "preset": "preset",
    "dtype": "dtype",
    "cosine_mean": "cosine, mean",
    "cosine_worst": "cosine, worst",
    "top1_agreement": "same favourite",
    "places": "places",
}


@dataclass(frozen=True, slots=True)
class _Passage:
    prompt: Prompt
    codes: NDArray[np.int64]
    """[F, K], float32's own."""
    logits: Tensor
    """[F, K, C], float32's."""


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = parser_for(__doc__)
    parser.add_argument("--preset", type=one_of(PRESETS), default=["small"])
    parser.add_argument("--dtype", type=one_of(_COMPARED), default=list(_COMPARED))
    parser.add_argument("--frames", type=int, default=16, help="of each of the four prompts")
    parser.add_argument("--step", choices=STEPS, default="auto", help="how a frame is computed")
    options = parser.parse_args(arguments)
    name = "quantization-error-" + "-".join(options.preset)
    rows: list[dict[str, Any]] = []
    try:
        run = Run(options, name, "benchmarks.engine.quantization_error", arguments)
        run.note(weights=NOTE)
        for preset in options.preset:
            with console.status(f"{preset}: float32 speaks"):
                passages = _spoken(preset, run.device, options.frames, options.step)
            for dtype in options.dtype:
                with console.status(f"{preset}, {dtype}"):
                    rows.append({"preset": preset, "dtype": dtype, **_error(preset, run.device, dtype, passages)})
                run.note(rows=rows)
    except StartupError as error:
        refuse(parser, error)
        return
    run.show(rows, _COLUMNS)
    console.print(f"against fp32; {NOTE}")


def _spoken(preset: Preset, device: torch.device, num_frames: int, step: AskedStep) -> list[_Passage]:
    prompts = Prompts(config_of(preset))
    requests = [request_for(text) for text in _TEXTS]
    requests.append(request_for(_TEXTS[0], prompts.voice(_CONTEXT_FRAMES, seed=1)))
    built = [prompts.built(request) for request in requests]
    model = quantized_model(preset, device, PRECISIONS["fp32"])
    codes = spoken(model, built, num_frames, choose_step(step, model))
    return [_Passage(p, c, forced_logits(model, p, c)) for p, c in zip(built, codes, strict=True)]


def _error(preset: Preset, device: torch.device, dtype: str, passages: list[_Passage]) -> dict[str, Any]:
    precision: Precision = PRECISIONS[dtype]
    gc.collect()
    model = quantized_model(preset, device, precision)
    widen(model)
    cosines, agreements = [], []
    for passage in passages:
        logits = forced_logits(model, passage.prompt, passage.codes)
        cosines.append(cosine_similarity(logits, passage.logits, dim=-1).flatten())
        agreements.append((logits.argmax(-1) == passage.logits.argmax(-1)).flatten())
    cosine, agreement = torch.cat(cosines), torch.cat(agreements)
    return {
        "cosine_mean": round(cosine.mean().item(), 6),
        "cosine_worst": round(cosine.min().item(), 6),
        "top1_agreement": round(agreement.float().mean().item(), 4),
        "places": len(cosine),
    }


if __name__ == "__main__":
    main()
