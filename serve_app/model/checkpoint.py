"""Opens a checkpoint: the demo, a folder, or a repository of the Hub, in any of the layouts of `layout.py`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import CsmConfig

from serve_app.errors import CheckpointError
from serve_app.messages import RANDOM, TRAINED, TrainedFor
from serve_app.model import hub, layout
from serve_app.model.adapters.files import Adapter, is_adapter, read_adapter, read_adapter_config
from serve_app.model.adapters.merge import merged
from serve_app.model.config import parse_config, prefixed, shape_of, trained_for
from serve_app.model.create import WEIGHTS_MARKER
from serve_app.model.csm import Csm
from serve_app.model.matrix import QuantizationChoice
from serve_app.model.original import from_original, is_original
from serve_app.model.shape import CsmShape
from serve_app.model.stored import StoredTensor, stored_tensors
from serve_app.model.weights import CODEC_PREFIX, build_model

USUAL_BASE = "sesame/csm-1b"
"""Of weights in Sesame's layout that name none. It has the codec and the tokenizer, which that layout lacks."""

_REPOSITORY = re.compile(r"^[\w-][\w.-]*/[\w-][\w.-]*$")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are complete. Its tensors are read when they are needed."""

    name: str
    """As the user named it."""
    folder: Path
    config: CsmConfig
    shape: CsmShape
    weight_files: tuple[Path, ...]
    weights: str
    """`trained`, `demo voice`, or `random`: made by `create`, it sounds like noise."""

    trained_for: TrainedFor
    text_folder: Path
    """Holds the tokenizer: `folder`, or the base's."""
    base: "Checkpoint | None" = None
    """Has what this one lacks: of an adapter everything else, of Sesame's layout the codec."""
    adapter: Adapter | None = None

    @property
    def random_weights(self) -> bool:
        return self.weights == RANDOM

    @property
    def is_plain(self) -> bool:
        """Whether its own files are all of it, in transformers' layout."""
        return self.base is None

    def defining_files(self) -> tuple[Path, ...]:
        """Configuration and weights, its base's among them."""
        if self.adapter is not None:
            own = sorted(self.folder.glob("adapter_*"))
        else:
            own = [self.folder / "config.json", *sorted(self.weight_files)]
        base = self.base.defining_files() if self.base else ()
        # Sesame's layout has no config.json.
        return (*(file for file in own if file.is_file()), *base)

    def stored(self) -> Iterator[StoredTensor]:
        """All tensors by transformers' names, none read yet. Raises CheckpointError where a file is unreadable."""
        if self.adapter is not None:
            assert self.base is not None
            return merged(self.base.stored(), self.adapter)
        return self._own()

    def _own(self) -> Iterator[StoredTensor]:
        own = list(stored_tensors(self.weight_files, self.name))
        yield from from_original(own, self.shape) if is_original(tensor.name for tensor in own) else own
        if self.base is not None:
            yield from (tensor for tensor in self.base.stored() if tensor.name.startswith(CODEC_PREFIX))

    def model_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors but the codec's, by stored name."""
        for tensor in self.stored():
            if not tensor.name.startswith(CODEC_PREFIX):
                yield tensor.name, tensor.make()

    def codec_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The codec's tensors, as transformers' MimiModel names them."""
        for tensor in self.stored():
            if tensor.name.startswith(CODEC_PREFIX):
                yield tensor.name.removeprefix(CODEC_PREFIX), tensor.make()


def open_checkpoint(model: str, revision: str | None, base: str | None = None) -> Checkpoint:
    """Find or download `model`. `base` is used instead of the one that an adapter or a layout names.

    Raises CheckpointError where it cannot be served, with the remedy.
    """
    folder = _resolve(model, revision)
    if is_adapter(folder):
        return _open_adapter(folder, model, base)
    if not layout.is_configured(folder) and (file := layout.find_original(folder)):
        return _open_original(folder, model, file, base)
    values = layout.read_config(folder, model)
    config = parse_config(values, model)
    files = layout.find_weights(folder, values, model)
    names = [tensor.name for tensor in stored_tensors(files, model)]
    needs_codec = is_original(names) and not any(name.startswith(CODEC_PREFIX) for name in names)
    needs_text = not (folder / "tokenizer.json").is_file()
    if needs_text and base is None:
        raise CheckpointError(
            f"{model}: tokenizer.json is missing in {folder}: download the checkpoint again, or name its base in `base`"
        )
    found = _open_base(model, base or USUAL_BASE, None) if needs_codec or needs_text else None
    return Checkpoint(
        name=model,
        folder=folder,
        config=config,
        shape=shape_of(config, model),
        weight_files=files,
        weights=str(values.get(WEIGHTS_MARKER, TRAINED)),
        trained_for=trained_for(values, model),
        text_folder=found.text_folder if needs_text and found else folder,
        base=found if needs_codec else None,
    )


def require_checkpoint(model: str, revision: str | None, base: str | None = None) -> None:
    """Raises CheckpointError where `open_checkpoint` would find files missing or unreadable. Downloads no weights."""
    if model == layout.DEMO:
        return
    if not Path(model).expanduser().is_dir() and _REPOSITORY.match(model):
        hub.reach(model, revision)
    else:
        open_checkpoint(model, revision, base)


def load_model(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, quantization: QuantizationChoice = "none"
) -> Csm:
    """Raises CheckpointError where a tensor is unknown, missing or of another shape."""
    try:
        return build_model(checkpoint.shape, checkpoint.model_tensors(), device, dtype, quantization)
    except CheckpointError as error:
        raise prefixed(checkpoint.name, error) from error


def find_folder(model: str, revision: str | None) -> Path:
    """The folder of a checkpoint or an adapter, downloaded if it is a repository. Raises CheckpointError."""
    return _resolve(model, revision)


def _open_adapter(folder: Path, name: str, base: str | None) -> Checkpoint:
    config = read_adapter_config(folder, name)
    named = base or config.base
    if named is None:
        raise CheckpointError(f"{name}: adapter_config.json names no base_model_name_or_path: name its base in `base`")
    found = _open_base(name, named, None if base else config.base_revision)
    opened = replace(found, name=name, folder=folder, base=found, adapter=read_adapter(folder, name))
    next(opened.stored())  # Refuses another base's adapter before anything is loaded.
    return opened


def _open_original(folder: Path, name: str, file: Path, base: str | None) -> Checkpoint:
    if not is_original(tensor.name for tensor in stored_tensors((file,), name)):
        # It is none of ours, which reading config.json says.
        layout.read_config(folder, name)
    found = _open_base(name, base or USUAL_BASE, None)
    has_text = (folder / "tokenizer.json").is_file()
    return replace(
        found,
        name=name,
        folder=folder,
        weight_files=(file,),
        text_folder=folder if has_text else found.text_folder,
        base=found,
        adapter=None,
    )


def _open_base(name: str, base: str, revision: str | None) -> Checkpoint:
    try:
        found = open_checkpoint(base, revision)
    except CheckpointError as error:
        raise CheckpointError(
            f"{name}: its base cannot be opened: {error}; another one can be named in `base`"
        ) from error
    if found.adapter is not None:
        raise CheckpointError(
            f"{name}: its base {base} is an adapter itself: merge that with csm-serve checkpoint convert"
        )
    return found


def _resolve(model: str, revision: str | None) -> Path:
    if folder := layout.local_folder(model):
        return folder
    if _REPOSITORY.match(model):
        return hub.download(model, revision)
    raise CheckpointError(f"{model}: no such folder; give 'demo', a folder, or a Hub repository like sesame/csm-1b")
