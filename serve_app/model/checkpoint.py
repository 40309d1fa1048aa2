"""From what a user calls a model to tensors: the demo, a folder, or a repository of the Hub."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import CsmConfig

from serve_app.errors import CheckpointError
from serve_app.model import hub
from serve_app.model.create import RANDOM, WEIGHTS_MARKER, create_checkpoint
from serve_app.model.csm import Csm
from serve_app.model.layout import find_weights, read_config, read_tensors
from serve_app.model.matrix import Quantization
from serve_app.model.shape import CsmShape
from serve_app.model.weights import CODEC_PREFIX, build_model

DEMO = "demo"

_REPOSITORY = re.compile(r"^[\w-][\w.-]*/[\w-][\w.-]*$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are all there; its tensors are read when asked for."""

    name: str
    """As the user named it."""
    folder: Path
    config: CsmConfig
    shape: CsmShape
    weight_files: tuple[Path, ...]
    random_weights: bool
    """It was made by `create` and sounds like noise."""

    def model_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Everything but the codec, by stored name."""
        for path in self.weight_files:
            yield from read_tensors(path, self.name, CODEC_PREFIX, wanted=False)

    def codec_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The codec's own, as transformers' MimiModel names them."""
        for path in self.weight_files:
            for name, tensor in read_tensors(path, self.name, CODEC_PREFIX, wanted=True):
                yield name.removeprefix(CODEC_PREFIX), tensor


def open_checkpoint(model: str, revision: str | None, data_dir: Path) -> Checkpoint:
    """Find, make or download `model`. Raises CheckpointError where it cannot be served, with the remedy."""
    folder = _resolve(model, revision, data_dir)
    values = read_config(folder, model)
    config = _parse(values, model)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{model}: tokenizer.json is missing in {folder}: download the checkpoint again")
    return Checkpoint(
        name=model,
        folder=folder,
        config=config,
        shape=_named(model, config),
        weight_files=find_weights(folder, values, model),
        random_weights=values.get(WEIGHTS_MARKER) == RANDOM,
    )


def require_checkpoint(model: str, revision: str | None, data_dir: Path) -> None:
    """Raises CheckpointError where `open_checkpoint` would for files that are missing or may not be read. Makes and
    downloads no weights."""
    if model == DEMO:
        return
    if not Path(model).expanduser().is_dir() and _REPOSITORY.match(model):
        hub.reach(model, revision)
    else:
        open_checkpoint(model, revision, data_dir)


def load_model(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, quantization: Quantization = "none"
) -> Csm:
    """Raises CheckpointError where a tensor is unknown, missing or of another shape."""
    try:
        return build_model(checkpoint.shape, checkpoint.model_tensors(), device, dtype, quantization)
    except CheckpointError as error:
        raise _prefixed(checkpoint.name, error) from error


def _resolve(model: str, revision: str | None, data_dir: Path) -> Path:
    if model == DEMO:
        return _demo_folder(data_dir)
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        return folder
    if _REPOSITORY.match(model):
        return hub.download(model, revision)
    raise CheckpointError(f"{model}: no such folder; give 'demo', a folder, or a Hub repository like sesame/csm-1b")


def _demo_folder(data_dir: Path) -> Path:
    folder = data_dir / "checkpoints" / DEMO
    if not folder.is_dir():
        try:
            _create_atomically(folder)
        except OSError as error:
            raise CheckpointError(
                f"demo: cannot write {folder} ({error}): set CSM_DATA_DIR to another folder"
            ) from error
    return folder


def _create_atomically(folder: Path) -> None:
    """Several processes may want the demo at once: each makes its own, the first to rename wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        create_checkpoint(made, DEMO, seed=0)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _parse(values: dict[str, Any], name: str) -> CsmConfig:
    # It warns of every special id of the real model, which it takes for ids of codes.
    transformers.logging.set_verbosity_error()
    try:
        return CsmConfig.from_dict(values)
    except (StrictDataclassError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: config.json cannot be read ({error}): download it again") from error


def _named(name: str, config: CsmConfig) -> CsmShape:
    try:
        return CsmShape.from_config(config)
    except CheckpointError as error:
        raise _prefixed(name, error) from error


def _prefixed(name: str, error: CheckpointError) -> CheckpointError:
    return CheckpointError(f"{name}: {error}")
