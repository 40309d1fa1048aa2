"""Records in a database, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.errors import UnknownRequest
from serve_app.messages import ContextSegment
from serve_app.records.record import Record, RecordedPart, Resume
from serve_app.records.records import Records
from serve_app.store.database import Database
from tests.support.fakes import NUM_CODEBOOKS, frames_of

PART = RecordedPart(
    number=0,
    turn=0,
    speaker=0,
    text="hello",
    num_words=1,
    start=0,
    end=6,
    ends_with=2,
    seed=7,
    first_frame=0,
    num_frames=3,
)
LATER = replace(PART, turn=1, speaker=1, text="there", first_frame=4, num_frames=2, resumes=(Resume(1, 0, 1),))
RECORD = Record(
    request_id="one",
    created_at=5.0,
    seed=7,
    finish_reason="eos",
    model={"model": "fake"},
    scene={"turns": [{"text": "Hello!", "speaker": 0}, {"text": "There.", "speaker": 1}]},
    context=(ContextSegment("before", 2, frames_of(9, 2), anchor=True),),
    num_given=1,
    parts=(replace(PART, pause_frames=1), LATER),
    codes=frames_of(1, 3) + frames_of(2, 2),
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/state.db"
    database = Database.open(url if request.param == "sqlite" else request.getfixturevalue("postgres").new_database())
    yield database
    database.close()


async def test_a_record_is_read_as_it_was_kept_by_its_owner_alone(database: Database) -> None:
    records = Records(database)
    await records.put("me", RECORD, 60)
    assert await records.get("me", "one") == RECORD
    with pytest.raises(UnknownRequest):
        await records.get("you", "one")


async def test_of_two_records_with_one_id_the_later_counts(database: Database) -> None:
    records = Records(database)
    await records.put("me", RECORD, 60)
    await records.put("me", replace(RECORD, seed=8), 60)
    assert (await records.get("me", "one")).seed == 8


async def test_an_expired_record_is_unknown_and_swept(database: Database) -> None:
    clock = Clock()
    records = Records(database, clock)
    await records.put("me", RECORD, 60)
    clock.now += 60
    with pytest.raises(UnknownRequest):
        await records.get("me", "one")
    assert (await records.sweep(), await records.sweep()) == (1, 0)


def test_a_record_counts_pauses_and_finds_the_codes_of_each_part() -> None:
    assert RECORD.num_frames == 6
    assert (RECORD.codes_of(0), RECORD.codes_of(1)) == (frames_of(1, 3), frames_of(2, 2))
    assert [segment.text for segment in RECORD.segments()] == ["hello", "there"]
    assert RECORD.codes.num_codebooks == NUM_CODEBOOKS


def test_the_context_hash_tells_text_speaker_and_codes_apart() -> None:
    (segment,) = RECORD.context
    changed = (replace(segment, text="after"), replace(segment, speaker=1), replace(segment, codes=frames_of(8, 2)))
    hashes = {replace(RECORD, context=(one,)).context_hash for one in (segment, *changed)}
    assert len(hashes) == 4
