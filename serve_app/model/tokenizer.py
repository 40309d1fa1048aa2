"""Text to the backbone's token ids."""

from tokenizers import Tokenizer

from serve_app.errors import CheckpointError
from serve_app.model.checkpoint import Checkpoint
from serve_app.model.processor_files import BOS, EOS


class TextTokenizer:
    """The checkpoint's own tokenizer, with CSM's prompt format around it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._name = checkpoint.name
        self._tokenizer = self._load(str(checkpoint.text_folder / "tokenizer.json"))
        # A user's text must stay text: <|AUDIO|> would become the placeholder of an audio frame.
        self._tokenizer.encode_special_tokens = True
        self._bos, self._eos = self._special(BOS), self._special(EOS)
        highest = max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        if highest >= checkpoint.shape.text_vocab_size:
            raise CheckpointError(
                f"{self._name}: tokenizer.json has id {highest}, but config.json says text_vocab_size "
                f"{checkpoint.shape.text_vocab_size}: they belong to different checkpoints"
            )

    def encode(self, speaker: int, text: str) -> list[int]:
        """The ids of one passage: BOS, `[speaker]` and the text, EOS."""
        encoding = self._tokenizer.encode(f"[{speaker}]{text}", add_special_tokens=False)
        return [self._bos, *encoding.ids, self._eos]

    def _load(self, path: str) -> Tokenizer:
        try:
            return Tokenizer.from_file(path)
        except Exception as error:
            # The library raises nothing narrower.
            raise CheckpointError(f"{self._name}: tokenizer.json is unreadable ({error}): download it again") from error

    def _special(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise CheckpointError(f"{self._name}: tokenizer.json has no {token}: use the CSM checkpoint's own")
        return number
