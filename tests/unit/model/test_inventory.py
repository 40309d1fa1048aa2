"""What a damaged checkpoint lacks is named, from the files' headers alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CsmForConditionalGeneration

from serve_app.model.checkpoint import Checkpoint, open_checkpoint
from serve_app.model.inventory import snapshot_commit, take_inventory

QUERY = "backbone_model.layers.1.self_attn.q_proj.weight"
NORM = "codec_model.decoder_transformer.layers.0.input_layernorm.weight"


@pytest.fixture
def damaged(
    tiny_checkpoint_folder: Path, tmp_path: Path
) -> Callable[[str, Callable[[Tensor], dict[str, Tensor]]], Path]:
    """Replaces one tensor of a copy by whatever a function makes of it."""

    def damage(name: str, change: Callable[[Tensor], dict[str, Tensor]]) -> Path:
        folder = shutil.copytree(tiny_checkpoint_folder, tmp_path / "copy")
        for path in folder.glob("*.safetensors"):
            tensors = load_file(path)
            if name in tensors:
                path.unlink()
                save_file({**{n: t for n, t in tensors.items() if n != name}, **change(tensors[name])}, path)
                return folder
        raise AssertionError(f"{name} is in no file")

    return damage


def opened(folder: Path) -> Checkpoint:
    return open_checkpoint(str(folder), None)


def test_a_whole_checkpoint_has_no_problem(tiny_checkpoint: Checkpoint) -> None:
    inventory = take_inventory(tiny_checkpoint)
    assert inventory.problems == ()
    assert len(inventory.found) == inventory.num_expected
    assert inventory.dtypes == {"F32": inventory.num_expected}
    assert list(inventory.file_bytes) == [path.name for path in tiny_checkpoint.weight_files]


def test_parameters_are_those_of_transformers(tiny_checkpoint: Checkpoint) -> None:
    with torch.device("meta"):
        model = CsmForConditionalGeneration(tiny_checkpoint.config)
    codec = sum(value.numel() for name, value in model.state_dict().items() if name.startswith("codec_model."))
    others = {id(p): p.numel() for name, p in model.named_parameters() if not name.startswith("codec_model.")}
    counted = take_inventory(tiny_checkpoint).parameters
    assert list(counted) == ["embeddings", "backbone", "depth decoder", "heads", "codec"]
    assert counted["codec"] == codec, "parameters and codebooks"
    assert counted["backbone"] == sum(p.numel() for p in model.backbone_model.layers.parameters()) + 64
    # The audio table stands under two names on disk, and counts once.
    twice = model.depth_decoder.model.embed_tokens.weight.numel() if len(others) != len(set(others)) else 0
    assert sum(counted.values()) - codec == sum(others.values()) - twice


@pytest.mark.parametrize("name", [QUERY, NORM])
def test_a_removed_tensor_is_missing(damaged: Callable[..., Path], name: str) -> None:
    inventory = take_inventory(opened(damaged(name, lambda tensor: {})))
    assert inventory.missing == (name,)
    assert inventory.problems == (f"{name} is missing",)


def test_a_renamed_tensor_is_missing_and_unexpected(damaged: Callable[..., Path]) -> None:
    inventory = take_inventory(opened(damaged(QUERY, lambda tensor: {"backbone_model.q": tensor})))
    assert (inventory.missing, inventory.unexpected) == ((QUERY,), ("backbone_model.q",))


def test_a_reshaped_tensor_is_named_with_both_shapes(damaged: Callable[..., Path]) -> None:
    inventory = take_inventory(opened(damaged(QUERY, lambda tensor: {QUERY: tensor.reshape(32, 128)})))
    assert inventory.problems == (f"{QUERY} is [32, 128], config.json says [64, 64]",)


def test_a_tensor_stored_twice_is_named(damaged: Callable[..., Path], tiny_checkpoint: Checkpoint) -> None:
    other = "codec_model.decoder.layers.0.conv.bias"
    first = load_file(tiny_checkpoint.weight_files[0])
    name, tensor = next(iter(first.items()))
    inventory = take_inventory(opened(damaged(other, lambda kept: {other: kept, name: tensor.clone()})))
    assert inventory.unexpected == (f"{name} (stored twice)",)


def test_one_name_of_the_tied_table_is_enough(damaged: Callable[..., Path]) -> None:
    inventory = take_inventory(opened(damaged("backbone_model.embed_tokens.embed_audio_tokens.weight", lambda t: {})))
    assert inventory.problems == ()


def test_what_save_pretrained_writes_is_whole(
    oracle: CsmForConditionalGeneration, tiny_checkpoint_folder: Path, tmp_path: Path
) -> None:
    oracle.save_pretrained(tmp_path)
    shutil.copy(tiny_checkpoint_folder / "tokenizer.json", tmp_path)
    inventory = take_inventory(opened(tmp_path))
    assert inventory.problems == ()
    assert len(inventory.found) == inventory.num_expected
    assert inventory.parameters == take_inventory(opened(tiny_checkpoint_folder)).parameters


def test_stored_types_are_counted(damaged: Callable[..., Path]) -> None:
    inventory = take_inventory(opened(damaged(QUERY, lambda tensor: {QUERY: tensor.bfloat16()})))
    assert inventory.problems == ()
    assert inventory.dtypes == {"F32": inventory.num_expected - 1, "BF16": 1}


def test_a_snapshot_of_the_hubs_cache_has_a_commit() -> None:
    assert snapshot_commit(Path("/cache/models--sesame--csm-1b/snapshots/c92a71e1")) == "c92a71e1"
    assert snapshot_commit(Path("/data/csm-1b")) is None
