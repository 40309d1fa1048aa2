"""A codec made ready for replicas that do without torch, and its file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from serve_app.codec.native.stored_weights import arrays_of, numbers_of, weights_of
from serve_app.codec.native.weights import DecoderWeights
from serve_app.messages import Codes, ContextSegment

_NUMBERS = "numbers"


@dataclass(frozen=True, slots=True)
class PreparedCodec:
    """What a replica on a CPU needs to decode, and to answer for the encoder until there is a clip to encode."""

    weights: DecoderWeights
    fingerprint: str
    voices: dict[int, ContextSegment]
    """The checkpoint's own, by speaker."""

    def save(self, path: Path) -> None:
        voices = [[speaker, voice.text] for speaker, voice in self.voices.items()]
        numbers = numbers_of(self.weights) | {"fingerprint": self.fingerprint, "voices": voices}
        arrays: dict[str, Any] = dict(arrays_of(self.weights))
        arrays |= {f"voice.{speaker}": voice.codes.to_array() for speaker, voice in self.voices.items()}
        save_file(arrays, path, {_NUMBERS: json.dumps(numbers)})

    @classmethod
    def read(cls, path: Path) -> Self:
        with safe_open(path, "np") as file:
            numbers = json.loads(file.metadata()[_NUMBERS])
            arrays = {name: np.ascontiguousarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        voices = {
            speaker: ContextSegment(
                text, speaker, Codes.from_array(arrays[f"voice.{speaker}"]), anchor=True, public=True
            )
            for speaker, text in numbers["voices"]
        }
        return cls(weights_of(arrays, numbers), numbers["fingerprint"], voices)
