import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoProcessor, CsmForConditionalGeneration

from serve_app.errors import CheckpointError
from serve_app.model.checkpoint import open_checkpoint
from serve_app.model.create import create_checkpoint
from serve_app.model.presets import preset_config
from serve_app.model.weights import AUDIO_TABLES


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return shapes


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def test_transformers_loads_it_with_nothing_missing_and_nothing_left_over(tiny_checkpoint_folder: Path) -> None:
    _, info = CsmForConditionalGeneration.from_pretrained(tiny_checkpoint_folder, output_loading_info=True)
    assert not any(info.values()), info


def test_transformers_processor_loads_and_speaks_the_prompt_format(tiny_checkpoint_folder: Path) -> None:
    processor = AutoProcessor.from_pretrained(tiny_checkpoint_folder)
    turn = [{"role": "0", "content": [{"type": "text", "text": "hi"}]}]
    templated = processor.apply_chat_template(turn, tokenize=True, return_dict=True)["input_ids"]
    plain = processor("[0]hi", add_special_tokens=True)["input_ids"]
    assert templated.tolist() == plain.tolist() == [[256, 58, 15, 60, 71, 72, 257]]


def test_names_are_those_save_pretrained_writes_and_the_second_name_of_the_tied_table(
    tiny_checkpoint_folder: Path, oracle: CsmForConditionalGeneration, tmp_path: Path
) -> None:
    oracle.save_pretrained(tmp_path)
    saved = shapes_in(tmp_path)
    table = next(saved[name] for name in AUDIO_TABLES if name in saved)
    assert shapes_in(tiny_checkpoint_folder) == saved | dict.fromkeys(AUDIO_TABLES, table)


def test_the_folder_looks_like_the_hubs(tiny_checkpoint_folder: Path) -> None:
    names = {path.name for path in tiny_checkpoint_folder.iterdir()}
    shards = {name for name in names if name.endswith(".safetensors")}
    index = json.loads((tiny_checkpoint_folder / "transformers.safetensors.index.json").read_text())
    assert len(shards) >= 2
    assert set(index["weight_map"].values()) == shards
    assert names - shards == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "transformers.safetensors.index.json",
    }


def test_weights_are_a_function_of_the_seed(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    create_checkpoint(tmp_path / "same", "tiny", seed=0)
    create_checkpoint(tmp_path / "other", "tiny", seed=1)
    first, same, other = (tensors_in(f) for f in (tiny_checkpoint_folder, tmp_path / "same", tmp_path / "other"))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_the_two_names_of_the_tied_table_hold_the_same_numbers(tiny_checkpoint_folder: Path) -> None:
    tensors = tensors_in(tiny_checkpoint_folder)
    first, second = (tensors[name] for name in AUDIO_TABLES)
    assert torch.equal(first, second)


def test_random_codes_sound_quiet_and_do_not_clip(oracle: CsmForConditionalGeneration) -> None:
    codes = torch.randint(64, (1, 32, 60), generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        audio = oracle.codec_model.decode(codes).audio_values
    assert 0.03 < audio.square().mean().sqrt() < 0.08
    assert audio.abs().max() < 0.9


def test_the_codec_tells_sounds_apart(oracle: CsmForConditionalGeneration) -> None:
    noise = 0.1 * torch.randn(1, 1, 1920 * 30, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        codes = oracle.codec_model.encode(noise).audio_codes[0]
    assert all(len(set(codebook)) > 5 for codebook in codes.tolist())


def test_logits_are_neither_flat_nor_certain(oracle: CsmForConditionalGeneration) -> None:
    with torch.inference_mode():
        logits = oracle(input_ids=torch.randint(256, (1, 40))).logits[0]
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    assert 1.0 < entropy.mean() < 0.9 * torch.log(torch.tensor(67.0))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="not empty"):
        create_checkpoint(tmp_path, "tiny", seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_unknown_preset_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tiny, small, csm-1b"):
        create_checkpoint(tmp_path, "huge", seed=0)  # type: ignore[arg-type]


def test_bfloat16_storage_keeps_the_codec_in_float32(tmp_path: Path) -> None:
    create_checkpoint(tmp_path, "tiny", seed=0, dtype="bfloat16")
    dtypes = {name.startswith("codec_model."): tensor.dtype for name, tensor in tensors_in(tmp_path).items()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    assert open_checkpoint(str(tmp_path), None).config.dtype == torch.bfloat16


def test_progress_counts_up_to_all_bytes(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    create_checkpoint(tmp_path, "tiny", seed=0, progress=lambda done, total: steps.append((done, total)))
    done, totals = zip(*steps, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1]


def test_the_large_preset_is_csm_1b_and_its_vocabulary_is_sparse() -> None:
    config = preset_config("csm-1b")
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (2048, 16, 2051)
    assert (config.text_vocab_size, config.audio_token_id, config.audio_eos_token_id) == (128256, 128002, 128003)
    assert config.depth_decoder_config.max_position_embeddings == 33
    assert config.codec_config.num_quantizers == 32
