"""Leaves out clips that the prompt cannot hold, before they are encoded."""

from collections.abc import Sequence

from serve_app.errors import ContextTooLong
from serve_app.messages import FRAME_RATE_HZ, FRAME_SAMPLES, ContextSegment
from serve_app.speech.request import ContextClip

_OTHER_POSITIONS = 2
"""For a clip's text, at least one, and for the frame that ends the clip."""


def fitting(
    clips: Sequence[ContextClip], max_positions: int, voices: Sequence[ContextSegment] = ()
) -> tuple[ContextClip, ...]:
    """The clips that a prompt of `max_positions` can hold beside the kept `voices`, in order.

    The oldest are left out first, but never a speaker's first one, which holds the voice. The prompt's own rule is the
    same, and stricter: it knows the texts. Raises ContextTooLong where the voices alone are too long.
    """
    kept = list(clips)
    taken = sum(map(_num_positions, kept)) + sum(voice.codes.num_frames + _OTHER_POSITIONS for voice in voices)
    for clip in clips:
        if taken <= max_positions:
            break
        if not opens_voice(clip, clips, voices):
            kept = [other for other in kept if other is not clip]
            taken -= _num_positions(clip)
    if kept and taken > max_positions:
        seconds = max_positions / FRAME_RATE_HZ
        raise ContextTooLong(
            "context",
            f"the first clips of all speakers are longer together than the {seconds:.0f} s that the model can follow: "
            "send shorter clips, or fewer speakers",
        )
    return tuple(kept)


def opens_voice(clip: ContextClip, clips: Sequence[ContextClip], voices: Sequence[ContextSegment] = ()) -> bool:
    """A speaker's first clip holds the voice, and is kept when the context must be cut. A kept voice comes before."""
    if any(voice.speaker == clip.speaker for voice in voices):
        return False
    return next(other for other in clips if other.speaker == clip.speaker) is clip


def _num_positions(clip: ContextClip) -> int:
    return -(-len(clip.pcm) // (2 * FRAME_SAMPLES)) + _OTHER_POSITIONS
