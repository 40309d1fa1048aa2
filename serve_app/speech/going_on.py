"""Goes on with an answer that broke off while its text still came: from its next frame, with the same seeds, on the
same context."""

from serve_app.messages import Codes
from serve_app.records.record import Record, RecordedPart
from serve_app.speech.again import scene_of
from serve_app.speech.call import Before
from serve_app.speech.live.text import LiveText
from serve_app.speech.parts import Part
from serve_app.speech.scene import Scene, Turn
from serve_app.speech.text.splitting import Break, Piece


def can_go_on(record: Record) -> bool:
    """Whether something of it was spoken, and more was to follow."""
    return record.rest is not None and bool(record.parts)


def gone_on(record: Record, text: LiveText) -> tuple[Scene, Before]:
    """How to speak the rest of `record`, which is fed to `text`. More text may follow it, unless it was complete."""
    assert record.rest is not None, "can_go_on said so"
    last = record.parts[-1]
    is_broken = not last.pause_frames  # a pause comes once the part before it is whole
    num_whole = len(record.parts) - is_broken
    text.begin_at(last.end, last.number + 1, _broken(last, record.codes_of(num_whole)) if is_broken else None)
    text.speaker = last.speaker
    text.feed(record.rest.text)
    if record.rest.is_complete:
        text.close()
    given, history = record.context[: record.num_given], record.context[record.num_given :]
    before = Before(given, (*history, *record.segments(range(num_whole))), record)
    adapter = Turn.from_json(record.scene["turns"][last.turn]).adapter
    return scene_of(record, [Turn("", last.speaker, adapter=adapter)], record.seed), before


def _broken(part: RecordedPart, spoken: Codes) -> Part:
    piece = Piece(part.text, part.num_words, part.start, part.end, Break(part.ends_with))
    return Part(part.number, part.turn, part.speaker, piece, 0, is_last=False, resume=spoken)
