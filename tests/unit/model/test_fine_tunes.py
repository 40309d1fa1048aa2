"""Fine-tunes in every layout speak, greedily and in float32, the very codes of transformers with PEFT."""

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CsmForConditionalGeneration

from serve_app.engine.loading import load_parts
from serve_app.errors import CheckpointError
from serve_app.model.checkpoint import open_checkpoint
from serve_app.model.convert import convert_checkpoint
from serve_app.model.create import create_checkpoint
from serve_app.model.inventory import take_inventory
from serve_app.settings import Settings
from tests.support.engine_harness import Harness, request
from tests.support.fine_tunes import ATTENTION, load_base, make_adapter, said

NUM_FRAMES = 6
TEXT = "Hello there."


def ours(folder: Path, base: Path | None = None) -> list[list[int]]:
    harness = Harness(folder, base=str(base) if base else None)
    return harness.run(request(TEXT, greedy=True, max_frames=NUM_FRAMES))[0].frames


def theirs(model: CsmForConditionalGeneration, base: Path) -> list[list[int]]:
    return said(model, Harness(base).tokenizer.encode(0, TEXT), NUM_FRAMES)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fine-tunes") / "base"
    create_checkpoint(folder, "tiny", seed=3, overrides={"num_codebooks": 8})
    return folder


@pytest.fixture(scope="module")
def base_says(base: Path) -> list[list[int]]:
    return ours(base)


def train_heads(model: Any) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def train_biases(model: Any) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and "codec_model.decoder" in name:
                parameter.add_(0.01)


KINDS: dict[str, dict[str, Any]] = {
    "every matrix": {},
    "attention of the backbone": {"target_modules": r"backbone_model\..*self_attn\.[qv]_proj"},
    "depth decoder, heads and projection": {
        "target_modules": r"(depth_decoder\.model\..*(_proj|inputs_embeds_projector)|lm_head)",
        "target_parameters": ["depth_decoder.codebooks_head.weight"],
    },
    "rank-stabilized, ranks by pattern": {
        "use_rslora": True,
        "rank_pattern": {"o_proj": 2, "backbone_model.layers.0.mlp.up_proj": 8},
        "alpha_pattern": {"q_proj": 3},
    },
    "text embeddings": {"target_modules": [*ATTENTION, "embed_text_tokens"]},
    "one audio table": {"target_modules": [*ATTENTION, "embed_audio_tokens"]},
    "whole modules": {"modules_to_save": ["lm_head", "codebooks_head", "embed_text_tokens"], "change": train_heads},
    "DoRA": {"use_dora": True},
    "biases": {"bias": "all", "change": train_biases},
}


_QUICK = ("every matrix", "depth decoder, heads and projection")


@pytest.mark.parametrize("kind", [k if k in _QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_an_adapter_speaks_as_peft_does(kind: str, base: Path, base_says: list[list[int]], tmp_path: Path) -> None:
    model = make_adapter(base, tmp_path, **KINDS[kind])
    expected = theirs(model, base)
    assert ours(tmp_path) == expected
    assert expected != base_says, "the adapter changes what is said"


@pytest.mark.slow
def test_trained_biases_of_the_codec_are_taken(base: Path, tmp_path: Path) -> None:
    model = make_adapter(base, tmp_path, **KINDS["biases"])
    found = dict(open_checkpoint(str(tmp_path), None).codec_tensors())
    name = "decoder.layers.0.conv.bias"
    expected = dict(model.codec_model.named_parameters())["decoder.decoder_seanet.layers.0.conv.bias"]
    assert torch.equal(found[name], expected)


@pytest.mark.slow
def test_a_converted_adapter_is_a_checkpoint_that_transformers_reads(base: Path, tmp_path: Path) -> None:
    expected = theirs(make_adapter(base, tmp_path / "adapter"), base)
    convert_checkpoint(open_checkpoint(str(tmp_path / "adapter"), None), tmp_path / "merged")
    assert ours(tmp_path / "merged") == expected
    assert theirs(load_base(tmp_path / "merged"), base) == expected
    assert take_inventory(open_checkpoint(str(tmp_path / "merged"), None)).problems == ()


@pytest.mark.slow
def test_a_merged_fine_tune_with_its_own_texts(base: Path, tmp_path: Path) -> None:
    """As trainers push it: float16, no tokenizer, another generation config."""
    model = make_adapter(base, tmp_path / "adapter")
    expected = theirs(model, base)
    for dtype in (torch.float32, torch.float16):
        folder = tmp_path / str(dtype)
        adapted = _merged(base, tmp_path / "adapter").to(dtype)
        adapted.save_pretrained(folder, max_shard_size="200KB")
        (folder / "generation_config.json").write_text(json.dumps({"temperature": 0.1, "max_new_tokens": 3}))
        if dtype == torch.float32:
            assert ours(folder, base) == expected
        else:
            assert ours(folder, base) == theirs(_merged(base, tmp_path / "adapter").to(dtype).float(), base)
        with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing .* name its base"):
            open_checkpoint(str(folder), None)


def _merged(base: Path, adapter: Path) -> CsmForConditionalGeneration:
    return peft.PeftModel.from_pretrained(load_base(base), str(adapter)).merge_and_unload()


def to_original(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint as Sesame's own model holds them: torchtune's names, rotary pairs side by side."""
    model = load_base(folder)
    names = {
        "self_attn.q_proj.weight": "attn.q_proj.weight",
        "self_attn.k_proj.weight": "attn.k_proj.weight",
        "self_attn.v_proj.weight": "attn.v_proj.weight",
        "self_attn.o_proj.weight": "attn.output_proj.weight",
        "mlp.gate_proj.weight": "mlp.w1.weight",
        "mlp.down_proj.weight": "mlp.w2.weight",
        "mlp.up_proj.weight": "mlp.w3.weight",
        "input_layernorm.weight": "sa_norm.scale",
        "post_attention_layernorm.weight": "mlp_norm.scale",
    }
    found: dict[str, torch.Tensor] = {
        "text_embeddings.weight": model.embed_text_tokens.weight,
        "audio_embeddings.weight": model.backbone_model.embed_tokens.embed_audio_tokens.weight,
        "projection.weight": model.depth_decoder.model.inputs_embeds_projector.weight,
        "codebook0_head.weight": model.lm_head.weight,
        "audio_head": model.depth_decoder.codebooks_head.weight,
    }
    for stack, ours_, config in (
        ("backbone", model.backbone_model, model.config),
        ("decoder", model.depth_decoder.model, model.config.depth_decoder_config),
    ):
        found[f"{stack}.norm.scale"] = ours_.norm.weight
        for number, layer in enumerate(ours_.layers):
            for name, tensor in layer.named_parameters():
                if "q_proj" in name or "k_proj" in name:
                    heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
                    halves = tensor.view(heads, 2, -1, tensor.shape[1])
                    tensor = torch.stack((halves[:, 0], halves[:, 1]), dim=2).reshape(tensor.shape)
                found[f"{stack}.layers.{number}.{names[name]}"] = tensor
    return {name: tensor.detach().clone() for name, tensor in found.items()}


@pytest.mark.parametrize(
    "file", ["ckpt.pt", *(pytest.param(f, marks=pytest.mark.slow) for f in ("model.safetensors", "a trainer's"))]
)
def test_sesames_layout(file: str, base: Path, base_says: list[list[int]], tmp_path: Path) -> None:
    tensors = to_original(base)
    if file == "model.safetensors":
        save_file(tensors, tmp_path / file)
        (tmp_path / "config.json").write_text(json.dumps({"backbone_flavor": "llama-1B"}))
    else:
        values = tensors if file == "ckpt.pt" else {"model": tensors, "step": 7}
        torch.save(values, tmp_path / "ckpt.pt")
    assert take_inventory(open_checkpoint(str(tmp_path), None, str(base))).problems == ()
    convert_checkpoint(open_checkpoint(str(tmp_path), None, str(base)), tmp_path / "converted")
    assert ours(tmp_path / "converted") == base_says


def test_the_engine_names_each_layout_by_its_content(base: Path, tmp_path: Path) -> None:
    """Codes alone do not show this: neither an adapter nor Sesame's layout has the config.json that is hashed."""
    for seed in (0, 1):
        make_adapter(base, tmp_path / f"adapter-{seed}", seed)
    (tmp_path / "original").mkdir()
    torch.save(to_original(base), tmp_path / "original" / "ckpt.pt")
    folders = (base, *(tmp_path / name for name in ("adapter-0", "adapter-1", "original")))
    options = {"base": str(base), "device": "cpu"}
    hashes = [load_parts(Settings(model=str(folder), **options)).info.checkpoint for folder in folders]
    assert len(set(hashes)) == len(folders)


@pytest.mark.slow
def test_an_adapter_of_a_base_in_sesames_layout(base: Path, tmp_path: Path) -> None:
    model = make_adapter(base, tmp_path / "adapter")
    (tmp_path / "original").mkdir()
    torch.save(to_original(base), tmp_path / "original" / "ckpt.pt")
    shutil.copytree(base, tmp_path / "base")
    convert_checkpoint(open_checkpoint(str(tmp_path / "original"), None, str(base)), tmp_path / "converted")
    assert ours(tmp_path / "adapter", tmp_path / "converted") == theirs(model, base)


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "adapter"
    make_adapter(base, folder, target_modules=["q_proj"])
    return folder


class TestRefusals:
    @pytest.fixture
    def adapter(self, made: Path, tmp_path: Path) -> Path:
        """A copy to be damaged."""
        return shutil.copytree(made, tmp_path / "adapter")

    def refusal(self, folder: Path, base: Path | None = None) -> str:
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(str(folder), None, str(base) if base else None)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def change(self, adapter: Path, **values: Any) -> None:
        path = adapter / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    def test_an_adapter_of_another_base(self, adapter: Path, tmp_path: Path) -> None:
        create_checkpoint(tmp_path / "wide", "tiny", seed=0, overrides={"hidden_size": 128})
        assert "and the base has it as [64, 128]: name the base" in self.refusal(adapter, tmp_path / "wide")

    def test_an_adapter_of_more_layers(self, adapter: Path) -> None:
        path = adapter / "adapter_model.safetensors"
        save_file({name.replace("layers.1.", "layers.9."): tensor for name, tensor in load_file(path).items()}, path)
        assert "layers.9" in (said := self.refusal(adapter)) and "the base has no such tensor" in said

    def test_a_base_that_is_not_there(self, adapter: Path) -> None:
        self.change(adapter, base_model_name_or_path="/nowhere")
        assert "its base cannot be opened: /nowhere: no such folder" in self.refusal(adapter)

    def test_no_base(self, adapter: Path) -> None:
        self.change(adapter, base_model_name_or_path=None)
        assert "names no base_model_name_or_path" in self.refusal(adapter)

    def test_another_kind_of_adapter(self, adapter: Path) -> None:
        self.change(adapter, peft_type="IA3")
        assert "peft_type is 'IA3'; only LORA is served" in self.refusal(adapter)

    def test_an_option_that_is_not_served(self, adapter: Path) -> None:
        self.change(adapter, lora_bias=True)
        assert "lora_bias" in self.refusal(adapter)

    def test_a_missing_file(self, adapter: Path) -> None:
        (adapter / "adapter_model.safetensors").unlink()
        assert "adapter_model.safetensors is missing" in self.refusal(adapter)

    def test_half_of_a_change(self, adapter: Path) -> None:
        path = adapter / "adapter_model.safetensors"
        save_file(
            {name: t for name, t in load_file(path).items() if "layers.0.self_attn.q_proj.lora_B" not in name}, path
        )
        assert "lacks one of its two low-rank matrices" in self.refusal(adapter)

    def test_a_pickle_that_runs_code_is_not_opened(self, adapter: Path, tmp_path: Path) -> None:
        for path in (adapter / "adapter_model.bin", tmp_path / "ckpt.pt"):
            torch.save({"weight": Trap(tmp_path / "sprung")}, path)
        (adapter / "adapter_model.safetensors").unlink()
        for folder in (adapter, tmp_path):
            assert "is a pickle of more than plain tensors" in self.refusal(folder)
        assert not (tmp_path / "sprung").exists()

    def test_a_pickle_of_other_values(self, tmp_path: Path) -> None:
        torch.save([1, 2], tmp_path / "ckpt.pt")
        assert "holds no tensors by name" in self.refusal(tmp_path)
        torch.save({"audio_head": 3}, tmp_path / "ckpt.pt")
        assert "'audio_head', which is no tensor" in self.refusal(tmp_path)

    def test_a_truncated_pickle(self, tmp_path: Path) -> None:
        torch.save({"audio_head": torch.ones(3)}, tmp_path / "ckpt.pt")
        (tmp_path / "ckpt.pt").write_bytes((tmp_path / "ckpt.pt").read_bytes()[:-40])
        assert "ckpt.pt is truncated or corrupt" in self.refusal(tmp_path)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))
