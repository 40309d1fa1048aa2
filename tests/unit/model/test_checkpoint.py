import json
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import CsmForConditionalGeneration

from serve_app.errors import CheckpointError
from serve_app.model.checkpoint import Checkpoint, load_model, open_checkpoint
from serve_app.model.weights import destinations

CPU = torch.device("cpu")

FIRST_SHARD = "transformers-00001-of-00003.safetensors"
ORIGINAL = {
    "backbone.layers.0.attn.q_proj.weight": torch.ones(2, 2),
    "text_embeddings.weight": torch.ones(2, 2),
    "audio_head": torch.ones(1, 2, 2),
}


def open_folder(folder: Path) -> Checkpoint:
    return open_checkpoint(str(folder), None)


@pytest.fixture
def folder(tiny_checkpoint_folder: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return shutil.copytree(tiny_checkpoint_folder, tmp_path / "copy")


@pytest.fixture
def saved(oracle: CsmForConditionalGeneration, tiny_checkpoint_folder: Path, tmp_path: Path) -> Path:
    """What today's `save_pretrained` writes: one file, one name of the tied table."""
    oracle.save_pretrained(tmp_path / "saved")
    shutil.copy(tiny_checkpoint_folder / "tokenizer.json", tmp_path / "saved")
    return tmp_path / "saved"


def same_weights(first: Checkpoint, second: Checkpoint) -> bool:
    one, other = (load_model(checkpoint, CPU, torch.float32) for checkpoint in (first, second))
    return all(torch.equal(place(one), place(other)) for place in destinations(first.shape).values())


class TestLayouts:
    def test_the_hubs_layout_is_read_and_its_original_file_ignored(self, folder: Path) -> None:
        save_file(ORIGINAL, folder / "model.safetensors")
        checkpoint = open_folder(folder)
        assert checkpoint.weight_files[0].name == FIRST_SHARD
        assert load_model(checkpoint, CPU, torch.float32).dtype == torch.float32

    def test_what_save_pretrained_writes_is_read(self, saved: Path, tiny_checkpoint: Checkpoint) -> None:
        checkpoint = open_folder(saved)
        assert [path.name for path in checkpoint.weight_files] == ["model.safetensors"]
        assert same_weights(checkpoint, tiny_checkpoint)

    def test_what_save_pretrained_writes_in_shards_is_read(
        self, oracle: CsmForConditionalGeneration, saved: Path, tiny_checkpoint: Checkpoint
    ) -> None:
        (saved / "model.safetensors").unlink()
        oracle.save_pretrained(saved, max_shard_size="1MB")
        checkpoint = open_folder(saved)
        assert len(checkpoint.weight_files) > 1
        assert same_weights(checkpoint, tiny_checkpoint)

    def test_model_and_codec_tensors_are_all_of_the_file(self, saved: Path) -> None:
        checkpoint = open_folder(saved)
        names = [name for name, _ in checkpoint.model_tensors()]
        names += [f"codec_model.{name}" for name, _ in checkpoint.codec_tensors()]
        assert sorted(names) == sorted(load_file(saved / "model.safetensors"))

    def test_the_codecs_names_are_flat(self, tiny_checkpoint: Checkpoint) -> None:
        names = {name for name, _ in tiny_checkpoint.codec_tensors()}
        assert {"decoder.layers.0.conv.weight", "downsample.conv.weight", "upsample.conv.weight"} <= names

    def test_random_weights_are_marked_and_the_mark_is_ours_alone(self, folder: Path) -> None:
        assert open_folder(folder).random_weights
        config = json.loads((folder / "config.json").read_text())
        del config["csm_serve_weights"]
        (folder / "config.json").write_text(json.dumps(config))
        assert not open_folder(folder).random_weights

    def test_weights_take_the_dtype_that_is_asked_for(self, tiny_checkpoint: Checkpoint) -> None:
        assert load_model(tiny_checkpoint, CPU, torch.bfloat16).dtype == torch.bfloat16


class TestRefusals:
    @pytest.mark.parametrize(
        "file", ["config.json", "tokenizer.json", "transformers.safetensors.index.json", FIRST_SHARD]
    )
    def test_a_missing_file_is_named(self, folder: Path, file: str) -> None:
        (folder / file).unlink()
        with pytest.raises(CheckpointError, match=f"{file} is missing in .*: download the checkpoint again"):
            open_folder(folder)

    def test_a_folder_without_weights(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        del config["transformers_weights"]
        (folder / "config.json").write_text(json.dumps(config))
        for path in folder.glob("transformers*"):
            path.unlink()
        with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
            open_folder(folder)

    @pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"", lambda data: b"\xff" * 100])
    def test_a_truncated_or_corrupt_file_is_named(self, folder: Path, damage: Callable[[bytes], bytes]) -> None:
        shard = folder / FIRST_SHARD
        shard.write_bytes(damage(shard.read_bytes()))
        with pytest.raises(CheckpointError, match=f"{FIRST_SHARD} is truncated or corrupt"):
            open_folder(folder)

    @pytest.mark.parametrize("file", ["config.json", "transformers.safetensors.index.json"])
    @pytest.mark.parametrize("text", ["{", "[]"])
    def test_broken_json_is_named(self, folder: Path, file: str, text: str) -> None:
        (folder / file).write_text(text)
        with pytest.raises(CheckpointError, match=f"{file} .*JSON"):
            open_folder(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model_type": "llama"}, "model_type 'llama'"),
            ({"hidden_size": "wide"}, "config.json cannot be read"),
            ({"codebook_eos_token_id": 5}, "codebook_eos_token_id must be 0"),
            ({"hidden_act": "gelu"}, "hidden_act"),
            ({"tie_codebooks_embeddings": False}, "tie_codebooks_embeddings"),
            ({"num_codebooks": 16}, "disagree"),
        ],
    )
    def test_a_config_that_is_not_served(self, folder: Path, change: dict, message: str) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError, match=message):
            open_folder(folder)

    def test_a_config_that_disagrees_with_the_weights(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
        with pytest.raises(CheckpointError, match=f"{folder}: weights: 9 tensors are missing"):
            load_model(open_folder(folder), CPU, torch.float32)

    @pytest.mark.parametrize("model", ["/no/such/folder", "nowhere", "./a/b", "", "a/b/c"])
    def test_a_name_that_is_nothing(self, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CheckpointError, match="no such folder"):
            open_checkpoint(model, None)


class TestDemo:
    def test_it_comes_with_the_package(self) -> None:
        demo = open_checkpoint("demo", None)
        assert demo.weights == "demo voice" and not demo.random_weights
        assert load_model(demo, CPU, torch.float32).dtype == torch.float32

    def test_it_is_small_enough_to_live_in_the_repository(self) -> None:
        folder = open_checkpoint("demo", None).folder
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 12_000_000


class FakeHub:
    """Stands in for snapshot_download: copies what the patterns allow from a folder, or raises."""

    def __init__(self, source: Path, snapshot: Path, error: Exception | None = None) -> None:
        self.source, self.snapshot, self.error = source, snapshot, error
        self.calls: list[tuple[str, str | None]] = []

    def __call__(self, repo_id: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.calls.append((repo_id, revision))
        if self.error:
            raise self.error
        for pattern in allow_patterns:
            for path in self.source.glob(pattern):
                target = self.snapshot / path.relative_to(self.source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        return str(self.snapshot)


def http_error(kind: type[HfHubHTTPError]) -> HfHubHTTPError:
    error = kind.__new__(kind)
    Exception.__init__(error, "refused")
    return error


class TestHub:
    @pytest.fixture
    def hub(self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
        save_file(ORIGINAL, folder / "model.safetensors")
        (folder / "ckpt.pt").write_bytes(b"large")
        (folder / "prompts").mkdir()
        (folder / "prompts" / "read_speech_a.wav").write_bytes(b"RIFF")
        fake = FakeHub(folder, tmp_path / "snapshot")
        monkeypatch.setattr(huggingface_hub, "snapshot_download", fake)
        monkeypatch.chdir(tmp_path)
        return fake

    def test_only_what_is_needed_is_fetched(self, hub: FakeHub) -> None:
        checkpoint = open_checkpoint("sesame/csm-1b", "main")
        fetched = {path.name for path in hub.snapshot.rglob("*") if path.is_file()}
        assert {"read_speech_a.wav", FIRST_SHARD, "chat_template.jinja"} <= fetched
        assert not fetched & {"model.safetensors", "ckpt.pt"}
        assert checkpoint.name == "sesame/csm-1b"
        assert set(hub.calls) == {("sesame/csm-1b", "main")}

    def test_a_repository_of_another_kind_gives_its_model_files(self, hub: FakeHub, saved: Path) -> None:
        hub.source = saved
        checkpoint = open_checkpoint("someone/csm-tuned", None)
        assert [path.name for path in checkpoint.weight_files] == ["model.safetensors"]

    def test_of_an_adapter_its_own_files_are_fetched(self, hub: FakeHub, folder: Path, tmp_path: Path) -> None:
        hub.source = tmp_path / "adapter"
        hub.source.mkdir()
        (hub.source / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 1}))
        (hub.source / "adapter_model.safetensors").write_bytes(b"")
        (hub.source / "optimizer.pt").write_bytes(b"large")
        with pytest.raises(CheckpointError, match="truncated"):
            open_checkpoint("someone/adapter", None, str(folder))
        assert {path.name for path in hub.snapshot.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}

    def test_of_sesames_layout_its_weights_are_fetched(self, hub: FakeHub, folder: Path, tmp_path: Path) -> None:
        hub.source = tmp_path / "original"
        hub.source.mkdir()
        save_file(ORIGINAL, hub.source / "model.safetensors")
        checkpoint = open_checkpoint("someone/original", None, str(folder))
        assert [path.name for path in checkpoint.weight_files] == ["model.safetensors"]
        assert checkpoint.text_folder == folder

    def test_a_gated_base_is_named_with_its_remedy(self, hub: FakeHub, tmp_path: Path) -> None:
        (tmp_path / "adapter").mkdir()
        values = {"peft_type": "LORA", "lora_alpha": 1, "base_model_name_or_path": "sesame/csm-1b"}
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(values))
        hub.error = http_error(GatedRepoError)
        with pytest.raises(CheckpointError, match=r"its base cannot be opened: sesame/csm-1b is gated: .*HF_TOKEN"):
            open_checkpoint(str(tmp_path / "adapter"), None)

    def test_another_models_weights_are_not_fetched(self, hub: FakeHub) -> None:
        (hub.source / "config.json").write_text(json.dumps({"model_type": "llama"}))
        with pytest.raises(CheckpointError, match="llama"):
            open_checkpoint("someone/llama", None)
        assert not list(hub.snapshot.glob("*.safetensors"))

    def test_a_folder_goes_before_a_repository_of_that_name(self, hub: FakeHub, tmp_path: Path) -> None:
        shutil.copytree(hub.source, tmp_path / "sesame" / "csm-1b")
        open_checkpoint("sesame/csm-1b", None)
        assert not hub.calls

    @pytest.mark.parametrize(
        ("error", "remedy"),
        [
            (http_error(GatedRepoError), "accept its licence .* HF_TOKEN"),
            (http_error(RepositoryNotFoundError), "check the name"),
            (http_error(HfHubHTTPError), "check the network"),
            (LocalEntryNotFoundError("offline"), "check the network .*give a folder"),
            (OSError("no space left"), "could not be fetched"),
        ],
    )
    def test_an_error_becomes_one_line_with_the_remedy(self, hub: FakeHub, error: Exception, remedy: str) -> None:
        hub.error = error
        with pytest.raises(CheckpointError, match=remedy) as caught:
            open_checkpoint("sesame/csm-1b", None)
        assert "\n" not in str(caught.value)
