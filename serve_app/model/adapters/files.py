"""Reads the folder of an adapter that PEFT wrote: adapter_config.json and adapter_model.safetensors (or .bin)."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from serve_app.errors import CheckpointError
from serve_app.model.layout import read_json
from serve_app.model.random_weights import stored_name
from serve_app.model.stored import stored_tensors

CONFIG_FILE = "adapter_config.json"
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")

_PREFIX = "base_model.model."
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<part>embedding_A|embedding_B|A|B|magnitude_vector)(\.weight)?")
_UNREAD = {
    "use_qalora": "QALoRA",
    "alora_invocation_tokens": "activated LoRA",
    "arrow_config": "Arrow routing",
    "lora_bias": "lora_bias",
    "layer_replication": "layer_replication",
    "trainable_token_indices": "trainable_token_indices",
    "megatron_config": "Megatron layers",
}
"""Options of LoRA that change what its matrices mean, by what to call them."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """The change of one weight: `up @ down`, scaled.

    Of a Linear `down` is [r, in] and `up` [out, r]. Of an embedding table [N, H] they are [r, N] and [H, r], and the
    change is transposed. Of a stack of E matrices, both hold the r ranks of each.
    """

    down: Tensor
    up: Tensor
    alpha: float
    is_rank_stabilized: bool
    is_embedding: bool = False
    magnitude: Tensor | None = None
    """[out], of DoRA: the norms of the changed weight's rows."""

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def scale(self, num_stacked: int = 1) -> float:
        """What PEFT multiplies the change by."""
        rank = self.rank / num_stacked
        return self.alpha / (rank**0.5 if self.is_rank_stabilized else rank)


@dataclass(frozen=True, slots=True)
class Adapter:
    """What an adapter's folder holds, by the stored names of the tensors that it changes."""

    name: str
    low_rank: Mapping[str, LowRank]
    replaced: Mapping[str, Tensor]
    """Whole tensors: `modules_to_save` and trained biases."""

    @property
    def rank(self) -> int:
        return max((change.rank for change in self.low_rank.values()), default=0)


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What adapter_config.json says and this server needs."""

    base: str | None
    base_revision: str | None
    alpha: float
    alpha_pattern: Mapping[str, float]
    is_rank_stabilized: bool

    def alpha_of(self, module: str) -> float:
        """PEFT takes the first pattern that the module's name, or the end of it, matches."""
        matches = (alpha for key, alpha in self.alpha_pattern.items() if re.match(rf"(.*\.)?({key})$", module))
        return next(matches, self.alpha)


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file()


def read_adapter_config(folder: Path, name: str) -> AdapterConfig:
    """Raises CheckpointError for what PEFT knows and this server does not."""
    values = read_json(folder / CONFIG_FILE, name)
    if values.get("peft_type") != "LORA":
        raise CheckpointError(f"{name}: its peft_type is {values.get('peft_type')!r}; only LORA is served")
    for option, called in _UNREAD.items():
        if values.get(option):
            raise CheckpointError(f"{name}: {called} ({option}) is not served: merge it with PEFT first")
    try:
        return AdapterConfig(
            base=values.get("base_model_name_or_path") or None,
            base_revision=values.get("revision") or None,
            alpha=float(values["lora_alpha"]),
            alpha_pattern={str(key): float(value) for key, value in (values.get("alpha_pattern") or {}).items()},
            is_rank_stabilized=bool(values.get("use_rslora")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: {CONFIG_FILE} has no usable lora_alpha or alpha_pattern ({error})") from error


def read_adapter(folder: Path, name: str) -> Adapter:
    """Hold all of the adapter's tensors. Raises CheckpointError where a file is missing, unreadable or not served."""
    config = read_adapter_config(folder, name)
    path = next((folder / file for file in WEIGHT_FILES if (folder / file).is_file()), None)
    if path is None:
        raise CheckpointError(f"{name}: {WEIGHT_FILES[0]} is missing in {folder}: download the adapter again")
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    replaced: dict[str, Tensor] = {}
    for tensor in stored_tensors((path,), name):
        key = tensor.name.removeprefix(_PREFIX).replace(".base_layer.", ".")
        if match := _LORA.fullmatch(key):
            parts[match["module"]][match["part"]] = tensor.make()
        else:
            replaced[stored_name(key)] = tensor.make()
    low_rank = dict(_low_rank(parts, config, name))
    if not low_rank and not replaced:
        raise CheckpointError(f"{name}: {path.name} holds no tensors: save the adapter again")
    return Adapter(name, low_rank, replaced)


def _low_rank(
    parts: Mapping[str, Mapping[str, Tensor]], config: AdapterConfig, name: str
) -> Iterator[tuple[str, LowRank]]:
    for module, tensors in parts.items():
        is_embedding = "embedding_A" in tensors
        down, up = (tensors.get(f"embedding_{part}" if is_embedding else part) for part in "AB")
        if down is None or up is None or down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
            raise CheckpointError(f"{name}: {module} lacks one of its two low-rank matrices: save the adapter again")
        magnitude = tensors.get("magnitude_vector")
        alpha, stabilized = config.alpha_of(module), config.is_rank_stabilized
        change = LowRank(down.float(), up.float(), alpha, stabilized, is_embedding, magnitude)
        yield stored_name(f"{module}.weight"), change


def check_rank(adapter: Adapter, max_rank: int) -> None:
    """Raises CheckpointError for an adapter of more than `max_rank` ranks."""
    if adapter.rank > max_rank:
        raise CheckpointError(
            f"{adapter.name}: its rank is {adapter.rank}, engine.max_adapter_rank is {max_rank}: raise that, or "
            "merge the adapter with csm-serve checkpoint convert"
        )
