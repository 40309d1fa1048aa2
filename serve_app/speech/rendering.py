"""The sound of a recorded answer, made from its codes without the generator. It is the sound that was sent."""

from collections.abc import AsyncGenerator

from serve_app.audio.seams import pause_of
from serve_app.errors import InvalidRequest
from serve_app.messages import FRAME_SAMPLES
from serve_app.ports import AudioDecoder
from serve_app.records.record import Record, RecordedPart

_FRAME_BYTES = 2 * FRAME_SAMPLES


async def rendered(
    record: Record, decoder: AudioDecoder, turn: int | None = None, speaker: int | None = None, first_frame: int = 0
) -> AsyncGenerator[bytes, None]:
    """PCM part by part: of the whole answer from `first_frame` on, or of one turn.

    With `speaker` it is that speaker's stem, as long as the answer, with silence where others speak. Raises
    InvalidRequest for a turn or speaker that the answer lacks.
    """
    numbers = _asked(record, turn, speaker)
    for number, part in numbers:
        skipped = max(0, first_frame - part.first_frame)
        if skipped >= part.num_frames + part.pause_frames:
            continue
        if speaker is not None and part.speaker != speaker:
            pcm = bytes(_FRAME_BYTES * (part.num_frames + part.pause_frames))
        else:
            speech = await decoder.decode(record.codes_of(number))
            pcm = speech + pause_of(part.pause_frames, speech[-2:])
        yield pcm[skipped * _FRAME_BYTES :]


def _asked(record: Record, turn: int | None, speaker: int | None) -> list[tuple[int, RecordedPart]]:
    numbered = list(enumerate(record.parts))
    if speaker is not None and speaker not in {part.speaker for part in record.parts}:
        raise InvalidRequest("speaker", f"{speaker} does not speak in this answer: name one that does")
    if turn is None:
        return numbered
    of_turn = [(number, part) for number, part in numbered if part.turn == turn]
    if not of_turn:
        turns = len(record.scene["turns"])
        raise InvalidRequest("turn", f"{turn} was not spoken: the answer has the turns 0 to {turns - 1}")
    return of_turn
