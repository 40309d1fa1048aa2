"""Two checkpoints side by side: the same texts and seeds, spoken by one after the other."""

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.codec.default_voices import default_clips
from serve_app.errors import StartupError
from serve_app.messages import ModelInfo
from serve_app.model.checkpoint import open_checkpoint
from serve_app.model.device import check_quantization, pick_device
from serve_app.settings import Settings
from serve_app.verify.listening import Heard, RecognizersEar, listen
from serve_app.verify.run import Progress
from serve_app.verify.served import ServedModel, Speed
from serve_app.verify.words import find_recognizer

QUANTIZATIONS = ("none", "int8", "int4", "fp8")


@dataclass(frozen=True, slots=True)
class Side:
    """What one of the two spoke."""

    name: str
    """As it was asked for."""
    info: ModelInfo
    heard: Sequence[Heard]
    speed: Speed
    prompted: frozenset[int] = frozenset()
    """Speakers whose voice is a clip that the checkpoint brings. The others speak as they were trained."""

    @property
    def arithmetic(self) -> str:
        """The types of its numbers."""
        info = self.info
        return info.dtype if info.quantization == "none" else f"{info.dtype} with {info.quantization} matrices"


def settings_of(name: str, common: Settings) -> Settings:
    """The settings that serve `MODEL` or `MODEL@QUANTIZATION`. Raises StartupError for another quantization."""
    model, at, quantization = name.rpartition("@")
    if not at:
        return common.model_copy(update={"model": name})
    if quantization not in QUANTIZATIONS:
        raise StartupError(f"--compare: {quantization} in {name} is none of {', '.join(QUANTIZATIONS)}")
    return common.model_copy(update={"model": model, "quantization": quantization})


def compare(names: Sequence[str], common: Settings, texts: Sequence[str], progress: Progress) -> list[Side]:
    """What each of `names` spoke, one model in memory at a time. Raises StartupError before the first one speaks if
    one of them cannot be opened, or has random weights.

    The speakers are those whose voices both bring. Where they share none, as a fine-tune without clips and its base, it
    is speaker 0, each as it would be served.
    """
    both = [settings_of(name, common) for name in names]
    prompted: list[frozenset[int]] = []
    for name, settings in zip(names, both, strict=True):
        check_quantization(settings.quantization, pick_device(settings.device))
        with progress(f"opening {name}"):
            checkpoint = open_checkpoint(settings.model, settings.revision, settings.base)
        if checkpoint.random_weights:
            raise StartupError(f"--compare: {name} has random weights, which say no words: name a trained checkpoint")
        prompted.append(frozenset(speaker for speaker, _, _ in default_clips(checkpoint.folder)))
    speakers = sorted(frozenset.intersection(*prompted)) or [0]
    sides = []
    for name, settings, voices in zip(names, both, prompted, strict=True):
        gc.collect()  # the model before may survive in reference cycles
        with progress(f"listening to {name}"):
            sides.append(asyncio.run(_listen(name, settings, texts, speakers, voices)))
    return sides


async def _listen(
    name: str, settings: Settings, texts: Sequence[str], speakers: Sequence[int], prompted: frozenset[int]
) -> Side:
    recognizer = find_recognizer()
    model = ServedModel(settings)
    try:
        heard = await listen(model, texts, RecognizersEar(recognizer) if recognizer else None, speakers)
        return Side(name, await model.tokens.info(), heard, await model.measure(), prompted)
    finally:
        model.stop()
