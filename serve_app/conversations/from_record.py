"""Turns that were just spoken."""

from serve_app.conversations.turn import Passage, Turn
from serve_app.records.record import Record


def turn_of(record: Record, prompt_positions: int = 0) -> Turn | None:
    """An answer as the turn of a conversation. None if nothing was spoken."""
    passages = tuple(Passage(part.text, part.first_frame, part.num_frames) for part in record.parts if part.num_frames)
    if not passages:
        return None
    return Turn(
        kind="spoken",
        speaker=record.parts[0].speaker,
        text=" ".join(turn["text"] for turn in record.scene["turns"]),
        passages=passages,
        codes=record.codes,
        request_id=record.request_id,
        prompt_positions=prompt_positions,
    )
