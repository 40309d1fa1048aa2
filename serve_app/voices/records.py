"""The rows of kept voices, and of the files that belong to them. Both change in one transaction."""

import json
import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from serve_app.errors import QuotaExceeded, UnknownVoice, VoiceNameTaken
from serve_app.store.database import Clock, Database, lock_name, reads, time_of, writes
from serve_app.store.file_records import FileRecords
from serve_app.store.tables import FILES
from serve_app.voices.tables import VOICE_CODES, VOICES
from serve_app.voices.voice import Consent, Voice, name_key

_ADDING = 7_210_034
"""PostgreSQL advisory lock, one for each owner: two uploads must not both take the last place."""


class VoiceRecords:
    """All methods may raise StorageFailed."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._now = time_of(clock)

    @reads
    def find(self, connection: Connection, name_or_id: str, owner: str) -> Voice:
        """Raises UnknownVoice."""
        return _voice(_row(connection, name_or_id, owner))

    @reads
    def all(self, connection: Connection, owner: str) -> list[Voice]:
        """By name."""
        rows = connection.execute(select(VOICES).where(VOICES.c.owner == owner).order_by(VOICES.c.name_key))
        return [_voice(row) for row in rows]

    @reads
    def check_room(self, connection: Connection, name: str, owner: str, max_voices: int) -> None:
        """Raises VoiceNameTaken and QuotaExceeded."""
        _check_room(connection, name, owner, max_voices)

    @writes
    def add(
        self, connection: Connection, voice: Voice, source_file: str, codes: Mapping[str, str], max_voices: int
    ) -> Voice:
        """Keep a voice whose files are stored, and the files with it. `codes`: the file of each codec.

        Returns it with its time. Raises VoiceNameTaken and QuotaExceeded.
        """
        lock_name(connection, _ADDING, voice.owner)
        _check_room(connection, voice.name, voice.owner, max_voices)
        now = self._now(connection)
        row = {
            "id": voice.id,
            "owner": voice.owner,
            "name": voice.name,
            "name_key": name_key(voice.name),
            "transcripts": json.dumps(voice.transcripts),
            "report": json.dumps(voice.report),
            "source_file": source_file,
            "consent_statement": voice.consent.statement,
            "consent_by": voice.consent.by,
            "consent_at": voice.consent_at or now,
            "created_at": now,
            "adapter": voice.adapter,
        }
        connection.execute(insert(VOICES).values(row))
        for codec, file in codes.items():
            connection.execute(insert(VOICE_CODES).values(voice=voice.id, codec=codec, file=file))
        for file in (source_file, *codes.values()):
            _keep(connection, file, now)
        return _voice(_row(connection, voice.id, voice.owner))

    @writes
    def note(self, connection: Connection, voice_id: str, owner: str, findings: Mapping[str, Any]) -> Voice:
        """Put `findings` into a voice's report. Raises UnknownVoice."""
        lock_name(connection, _ADDING, owner)
        report = json.loads(_row(connection, voice_id, owner).report) | findings
        connection.execute(update(VOICES).where(VOICES.c.id == voice_id).values(report=json.dumps(report)))
        return _voice(_row(connection, voice_id, owner))

    @writes
    def remove(self, connection: Connection, name_or_id: str, owner: str) -> None:
        """Forget a voice and its files. Raises UnknownVoice."""
        row = _row(connection, name_or_id, owner)
        codes = connection.execute(select(VOICE_CODES.c.file).where(VOICE_CODES.c.voice == row.id)).scalars()
        files = [row.source_file, *codes]
        connection.execute(delete(VOICE_CODES).where(VOICE_CODES.c.voice == row.id))
        connection.execute(delete(VOICES).where(VOICES.c.id == row.id))
        FileRecords(connection, self._now(connection)).delete(FILES.c.id.in_(files))

    @reads
    def codes_file(self, connection: Connection, voice_id: str, codec: str) -> str | None:
        """The file with the voice's codes of that codec."""
        where = (VOICE_CODES.c.voice == voice_id, VOICE_CODES.c.codec == codec)
        return connection.execute(select(VOICE_CODES.c.file).where(*where)).scalar()

    @reads
    def source_file(self, connection: Connection, voice_id: str, owner: str) -> str:
        """Raises UnknownVoice."""
        return _row(connection, voice_id, owner).source_file

    @writes
    def add_codes(self, connection: Connection, voice_id: str, owner: str, codec: str, file: str) -> None:
        """Keep the codes of another codec, unless another replica has done so. Raises UnknownVoice."""
        _row(connection, voice_id, owner)
        lock_name(connection, _ADDING, owner)
        where = (VOICE_CODES.c.voice == voice_id, VOICE_CODES.c.codec == codec)
        if connection.execute(select(VOICE_CODES.c.file).where(*where)).scalar() is None:
            connection.execute(insert(VOICE_CODES).values(voice=voice_id, codec=codec, file=file))
            _keep(connection, file, self._now(connection))


def _row(connection: Connection, name_or_id: str, owner: str) -> Row[Any]:
    named = or_(VOICES.c.id == name_or_id.strip(), VOICES.c.name_key == name_key(name_or_id))
    row = connection.execute(select(VOICES).where(VOICES.c.owner == owner, named)).one_or_none()
    if row is None:
        raise UnknownVoice(name_or_id)
    return row


def _check_room(connection: Connection, name: str, owner: str, max_voices: int) -> None:
    ours = VOICES.c.owner == owner
    taken = select(VOICES.c.id).where(ours, VOICES.c.name_key == name_key(name))
    if connection.execute(taken).scalar() is not None:
        raise VoiceNameTaken("name", "is the name of another voice of yours: choose another, or delete that one first")
    if connection.execute(select(func.count()).select_from(VOICES).where(ours)).scalar_one() >= max_voices:
        raise QuotaExceeded("name", f"does not fit: a key may keep {max_voices} voices; delete one that is not needed")


def _keep(connection: Connection, file_id: str, now: float) -> None:
    """A file was stored for a while, in case its process dies. From now on it goes with its voice."""
    assert FileRecords(connection, now).keep(file_id, math.inf), "files are stored for longer than it takes to add them"


def _voice(row: Row[Any]) -> Voice:
    return Voice(
        id=row.id,
        owner=row.owner,
        name=row.name,
        transcripts=tuple(json.loads(row.transcripts)),
        consent=Consent(row.consent_statement, row.consent_by),
        consent_at=row.consent_at,
        created_at=row.created_at,
        report=json.loads(row.report),
        adapter=row.adapter,
    )
