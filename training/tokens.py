"""Text as the demo voice reads it: bytes, in lower case."""

from tokenizers import Tokenizer, normalizers

from serve_app.model.processor_files import byte_tokenizer

BOS = 256
"""As in the presets of small checkpoints."""

TEXT_OFFSET = len("[0]") + 1
"""Where a text's first character stands among the ids of its turn."""
SPEAKER_OFFSET = len("[") + 1


def new_tokenizer() -> Tokenizer:
    tokenizer = byte_tokenizer(BOS)
    tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def turn_ids(tokenizer: Tokenizer, text: str, speaker: int) -> list[int]:
    return tokenizer.encode(f"[{speaker}]{text}").ids
