"""Makes recorded answers again: all of one, to compare the codes, or one turn under another seed."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from serve_app.errors import InvalidRequest
from serve_app.messages import Codes, Draw, ModelInfo, SamplingParams
from serve_app.records.record import Record, RecordedPart
from serve_app.speech.call import Before, Call
from serve_app.speech.scene import Scene, Turn
from serve_app.speech.service import SpeechService


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer that was made again has the codes of the first."""

    is_equal: bool
    frames: int
    frames_again: int
    first_difference: int | None
    """The first frame that differs, pauses not counted. None if all are equal."""
    changed: tuple[str, ...]
    """What differs in the served model: fields of `ModelInfo`, such as `checkpoint`, or `adapters`."""


async def replayed(speech: SpeechService, record: Record, call: Call) -> Verdict:
    """Make the answer again and compare. Raises what `SpeechService.open` and `Answer.chunks` raise, and
    InvalidRequest for a record that is not of one go."""
    if record.notes:
        raise InvalidRequest("request_id", "names an answer with a regenerated turn: replay the answer it came from")
    kept = record.num_given
    before = Before(record.context[:kept], record.context[kept:])
    scene = scene_of(record, _turns(record), record.seed)
    usual = scene.sampling.temperature
    draws = {part.number: Draw(part.seed, part.temperature or usual) for part in record.parts}
    scene = replace(scene, part_draws=draws)
    again = await _spoken(speech, scene, replace(call, record_seconds=0.0), before)
    return _verdict(record, again, await speech.info())


async def regenerated(speech: SpeechService, record: Record, turn: int, seed: int | None, call: Call) -> Record:
    """The answer with `turn` spoken anew, and every other sample as it was. Raises as `replayed`."""
    turns = _turns(record)
    if not 0 <= turn < len(turns) or turn not in {part.turn for part in record.parts}:
        raise InvalidRequest("turn", f"must be one of the turns that were spoken, 0 to {len(turns) - 1}")
    earlier = [number for number, part in enumerate(record.parts) if part.turn < turn]
    kept = record.num_given
    before = Before(record.context[:kept], (*record.context[kept:], *record.segments(earlier)))
    scene = scene_of(record, turns[turn : turn + 1], seed)
    new = await _spoken(speech, scene, replace(call, record_seconds=0.0), before)
    return _spliced(record, turn, new)


async def _spoken(speech: SpeechService, scene: Scene, call: Call, before: Before) -> Record:
    async with await speech.open(scene, call, before=before) as answer:
        async with aclosing(answer.chunks()) as chunks:
            async for _ in chunks:
                pass
        return answer.record_so_far()


def _turns(record: Record) -> list[Turn]:
    return [Turn.from_json(turn) for turn in record.scene["turns"]]


def scene_of(record: Record, turns: Sequence[Turn], seed: int | None) -> Scene:
    """`turns` as the answer of `record` was spoken, whose context comes from the record itself."""
    return Scene(
        turns=tuple(turns),
        context=(),
        seed=seed,
        sampling=SamplingParams(**record.scene["sampling"]),
        max_audio_seconds=record.scene["max_audio_seconds"],
    )


def _verdict(record: Record, again: Record, info: ModelInfo) -> Verdict:
    first, codes, difference = record.codes.to_array(), again.codes, None
    if codes.data != record.codes.data:
        shorter = min(len(first), codes.num_frames)
        differs = np.flatnonzero((first[:shorter] != codes.to_array()[:shorter]).any(axis=1))
        difference = int(differs[0]) if len(differs) else shorter
    changed = _changed(record.model, info)
    if record.scene.get("adapters", {}) != again.scene["adapters"]:
        changed += ("adapters",)
    return Verdict(difference is None, len(first), codes.num_frames, difference, changed)


def _changed(model: Mapping[str, Any], info: ModelInfo) -> tuple[str, ...]:
    return tuple(name for name, value in asdict(info).items() if model.get(name) != value)


def _spliced(record: Record, turn: int, new: Record) -> Record:
    """`record` with the parts of `new`, which has one turn, in place of its own parts of `turn`."""
    pieces: list[tuple[RecordedPart, Codes]] = [
        (part, record.codes_of(number)) for number, part in enumerate(record.parts) if part.turn < turn
    ]
    pieces += [(replace(part, turn=turn), new.codes_of(number)) for number, part in enumerate(new.parts)]
    pieces += [(part, record.codes_of(number)) for number, part in enumerate(record.parts) if part.turn > turn]
    parts: list[RecordedPart] = []
    first_frame = 0
    for part, _ in pieces:
        parts.append(replace(part, number=len(parts), first_frame=first_frame))
        first_frame += part.num_frames + part.pause_frames
    return replace(
        record,
        request_id=new.request_id,
        created_at=new.created_at,
        parts=tuple(parts),
        codes=replace(record.codes, data=b"".join(codes.data for _, codes in pieces)),
        notes={"regenerated_turn": turn, "seed_of_turn": new.seed, "from_request": record.request_id},
    )
