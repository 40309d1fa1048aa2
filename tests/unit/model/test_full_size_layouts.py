"""At CSM-1B's true size: every name and shape of Sesame's layout and of an adapter, from headers over empty files."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from transformers import CsmForConditionalGeneration

from serve_app.model.checkpoint import open_checkpoint
from serve_app.model.create import write_texts
from serve_app.model.inventory import take_inventory
from serve_app.model.presets import preset_config
from serve_app.model.processor_files import byte_tokenizer
from serve_app.model.random_weights import stored_name

BACKBONE = {"layers": 16, "hidden": 2048, "inner": 8192, "queries": 2048, "keys": 512}
DECODER = {"layers": 4, "hidden": 1024, "inner": 8192, "queries": 1024, "keys": 256}


def write_sparse(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file in float32 whose tensors are holes: it takes no room on the disk."""
    entries, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 4 * int(torch.Size(shape).numel())
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + offset)


def sesames() -> dict[str, tuple[int, ...]]:
    """What Sesame's ckpt.pt holds: 187 tensors of 1,552.8 million numbers."""
    shapes: dict[str, tuple[int, ...]] = {
        "text_embeddings.weight": (128256, 2048),
        "audio_embeddings.weight": (2051 * 32, 2048),
        "projection.weight": (1024, 2048),
        "codebook0_head.weight": (2051, 2048),
        "audio_head": (31, 1024, 2051),
    }
    for stack, s in (("backbone", BACKBONE), ("decoder", DECODER)):
        shapes[f"{stack}.norm.scale"] = (s["hidden"],)
        for n in range(s["layers"]):
            layer = f"{stack}.layers.{n}"
            shapes |= {f"{layer}.{norm}.scale": (s["hidden"],) for norm in ("sa_norm", "mlp_norm")}
            shapes |= {f"{layer}.attn.{p}_proj.weight": (s["keys"], s["hidden"]) for p in "kv"}
            shapes[f"{layer}.attn.q_proj.weight"] = (s["queries"], s["hidden"])
            shapes[f"{layer}.attn.output_proj.weight"] = (s["hidden"], s["queries"])
            shapes |= {f"{layer}.mlp.{w}.weight": (s["inner"], s["hidden"]) for w in ("w1", "w3")}
            shapes[f"{layer}.mlp.w2.weight"] = (s["hidden"], s["inner"])
    return shapes


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CSM-1B's config, and its tensors in transformers' layout."""
    folder = tmp_path_factory.mktemp("full") / "base"
    folder.mkdir()
    config = preset_config("csm-1b")
    write_texts(folder, config, "float32", byte_tokenizer(128000), {})
    with torch.device("meta"):
        model = CsmForConditionalGeneration(config)
    shapes = {stored_name(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    write_sparse(folder / "model.safetensors", shapes)
    return folder


def test_sesames_layout_has_every_tensor_of_the_model(base: Path, tmp_path: Path) -> None:
    shapes = sesames()
    assert len(shapes) == 187
    write_sparse(tmp_path / "model.safetensors", shapes)
    inventory = take_inventory(open_checkpoint(str(tmp_path), None, str(base)))
    assert inventory.problems == ()
    parameters = inventory.parameters
    assert round((sum(parameters.values()) - parameters["codec"]) / 1e6, 1) == 1552.8


def test_an_adapter_of_every_matrix_finds_its_places(base: Path, tmp_path: Path) -> None:
    rank, shapes = 32, {}
    for stack, s in (("backbone_model", BACKBONE), ("depth_decoder.model", DECODER)):
        hidden = s["hidden"]
        sizes = {
            "self_attn.q_proj": (s["queries"], hidden),
            "self_attn.k_proj": (s["keys"], hidden),
            "self_attn.v_proj": (s["keys"], hidden),
            "self_attn.o_proj": (hidden, s["queries"]),
            "mlp.gate_proj": (s["inner"], hidden),
            "mlp.up_proj": (s["inner"], hidden),
            "mlp.down_proj": (hidden, s["inner"]),
        }
        for n in range(s["layers"]):
            for name, (rows, columns) in sizes.items():
                module = f"base_model.model.{stack}.layers.{n}.{name}"
                shapes |= {f"{module}.lora_A.weight": (rank, columns), f"{module}.lora_B.weight": (rows, rank)}
    write_sparse(tmp_path / "adapter_model.safetensors", shapes)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 16}))
    checkpoint = open_checkpoint(str(tmp_path), None, str(base))
    assert checkpoint.adapter is not None and len(checkpoint.adapter.low_rank) == 140
    assert take_inventory(checkpoint).problems == ()
