import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer

from serve_app.errors import CheckpointError
from serve_app.model.checkpoint import Checkpoint
from serve_app.model.processor_files import byte_tokenizer
from serve_app.model.tokenizer import TextTokenizer

TEXTS = [
    "Hello from Sesame.",
    "",
    " leading and trailing ",
    "Grüße, 你好 🙂\n\tnext line",
    "<|AUDIO|> and <|begin_of_text|><|end_of_text|>[1]<|audio_eos|>",
    "<|AUDIO|>" * 40,
]


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Checkpoint) -> TextTokenizer:
    return TextTokenizer(tiny_checkpoint)


def changed(checkpoint: Checkpoint, folder: Path, tokenizer: Tokenizer) -> Checkpoint:
    tokenizer.save(str(folder / "tokenizer.json"))
    return replace(checkpoint, folder=folder, text_folder=folder)


def test_a_passage_is_bos_speaker_text_eos(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode(0, "hi") == [256, 58, 15, 60, 71, 72, 257]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("speaker", [0, 7, 12])
def test_ids_equal_transformers_with_split_special_tokens(
    tokenizer: TextTokenizer, tiny_checkpoint_folder: Path, speaker: int, text: str
) -> None:
    theirs = AutoTokenizer.from_pretrained(tiny_checkpoint_folder, split_special_tokens=True)
    assert tokenizer.encode(speaker, text) == theirs(f"[{speaker}]{text}")["input_ids"]


@pytest.mark.parametrize("text", TEXTS)
def test_special_tokens_that_a_user_types_stay_text(tokenizer: TextTokenizer, text: str) -> None:
    ids = tokenizer.encode(0, text)
    assert (ids[0], ids[-1]) == (256, 257)
    assert all(number < 256 for number in ids[1:-1])


def test_bos_and_eos_come_whatever_the_files_own_post_processor_adds(
    tokenizer: TextTokenizer, tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    values = json.loads((tiny_checkpoint.folder / "tokenizer.json").read_text()) | {"post_processor": None}
    bare = changed(tiny_checkpoint, tmp_path, Tokenizer.from_str(json.dumps(values)))
    assert TextTokenizer(bare).encode(1, "hi") == tokenizer.encode(1, "hi")


def test_csm_1bs_special_ids(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    large = changed(tiny_checkpoint, tmp_path, byte_tokenizer(128000))
    large = replace(large, shape=replace(large.shape, text_vocab_size=128256))
    assert TextTokenizer(large).encode(0, "<|AUDIO|>") == [128000, 58, 15, 60, *map(ord_id, "<|AUDIO|>"), 128001]


def ord_id(character: str) -> int:
    """Llama 3 numbers the printable characters from 0 on."""
    return ord(character) - ord("!")


def test_ids_beyond_the_text_table_are_refused(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    larger = byte_tokenizer(256)
    larger.add_tokens([AddedToken("extra")])
    with pytest.raises(CheckpointError, match=r"id 260.*text_vocab_size 260"):
        TextTokenizer(changed(tiny_checkpoint, tmp_path, larger))


def test_a_tokenizer_of_another_model_is_refused(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    text = byte_tokenizer(256).to_str().replace("<|begin_of_text|>", "<s>")
    with pytest.raises(CheckpointError, match=r"no <\|begin_of_text\|>"):
        TextTokenizer(changed(tiny_checkpoint, tmp_path, Tokenizer.from_str(text)))


def test_a_broken_file_is_named(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copy(tiny_checkpoint.folder / "config.json", tmp_path / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is unreadable"):
        TextTokenizer(replace(tiny_checkpoint, folder=tmp_path, text_folder=tmp_path))
