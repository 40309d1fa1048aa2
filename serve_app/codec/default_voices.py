"""The default voices of a checkpoint, for speakers 0 and 1."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from serve_app.audio.clip import decode_clip
from serve_app.errors import CheckpointError, InvalidAudio
from serve_app.messages import Codes, ContextSegment

_MAX_SECONDS = 90.0


class Encoder(Protocol):
    """As `encoder.ClipEncoder`."""

    def encode(self, pcm: bytes) -> Codes: ...


_PROMPTS = {
    0: (
        "conversational_a",
        "like revising for an exam I'd have to try and like keep up the momentum because I'd start really early I'd "
        "be like okay I'm gonna start revising now and then like you're revising for ages and then I just like start "
        "losing steam I didn't do that for the exam we had recently to be fair that was a more of a last minute "
        "scenario but like yeah I'm trying to like yeah I noticed this yesterday that like Mondays I sort of start "
        "the day with this not like a panic but like a",
    ),
    1: (
        "conversational_b",
        "like a super Mario level. Like it's very like high detail. And like, once you get into the park, it just "
        "like, everything looks like a computer game and they have all these, like, you know, if, if there's like a, "
        "you know, like in a Mario game, they will have like a question block. And if you like, you know, punch it, a "
        "coin will come out. So like everyone, when they come into the park, they get like this little bracelet and "
        "then you can go punching question blocks around.",
    ),
}
"""The Hub repository's prompts and their transcripts. A text file beside a clip, of the same name, takes precedence."""


def encoded_voices(folder: Path, encoder: Encoder) -> dict[int, ContextSegment]:
    """The prompts by speaker, as context that is never dropped. Raises CheckpointError for a broken clip."""
    return {
        speaker: ContextSegment(text, speaker, encoder.encode(pcm), anchor=True, public=True)
        for speaker, text, pcm in default_clips(folder)
    }


def default_clips(folder: Path) -> Iterator[tuple[int, str, bytes]]:
    """Speaker, transcript and PCM of each prompt in a checkpoint's folder. Raises CheckpointError for a broken clip."""
    for speaker, (name, transcript) in _PROMPTS.items():
        path = folder / "prompts" / f"{name}.wav"
        if not path.exists():
            continue
        said = path.with_suffix(".txt")
        try:
            pcm = decode_clip(path.name, path.read_bytes(), _MAX_SECONDS)
        except InvalidAudio as error:
            raise CheckpointError(f"prompts/{error}") from error
        yield speaker, said.read_text().strip() if said.exists() else transcript, pcm
