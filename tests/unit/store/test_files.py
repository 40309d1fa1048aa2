"""Files, on a folder and on a real S3 server, with SQLite and with a real PostgreSQL."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from serve_app.errors import (
    FileTooLarge,
    InvalidRequest,
    QuotaExceeded,
    StartupError,
    StorageFailed,
    UnknownFile,
    UnknownUpload,
)
from serve_app.settings import FileSettings
from serve_app.store.database import Database
from serve_app.store.file_records import GRACE_SECONDS
from serve_app.store.files import FileStore
from serve_app.store.object_store import Objects
from serve_app.store.stored_file import StoredFile

MIB = 1024 * 1024
DAY = 86400.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Kit:
    """A file store at a time that tests set, and what a test wants to know of it."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self.database, self.objects, self.clock = database, objects, Clock()
        self.files = self.with_settings()

    def with_settings(self, **settings: object) -> FileStore:
        return FileStore(self.database, self.objects, FileSettings.model_validate(settings), self.clock)

    async def put(self, data: bytes | AsyncIterator[bytes] = b"sound", **options) -> StoredFile:
        return await self.files.put(data, **{"name": "a.wav", "content_type": "audio/wav", "owner": "k", **options})

    async def sweep_all(self) -> int:
        """Also what was given up a moment ago."""
        num = await self.files.sweep()
        self.clock.now += GRACE_SECONDS + 1
        return num + await self.files.sweep()


@pytest.fixture
def kit(database: Database, objects: Objects) -> Kit:
    return Kit(database, objects)


async def read(files: FileStore, file_id: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in files.read(file_id, start, end)])


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def counting(num_bytes: int) -> bytes:
    """No two places look alike."""
    return np.arange(num_bytes // 4 + 1, dtype=">u4").tobytes()[:num_bytes]


async def test_a_file_is_read_as_it_was_written(kit: Kit) -> None:
    file = await kit.put(b"sound", name="Grüße.wav", owner="key-1")
    assert await read(kit.files, file.id) == b"sound"
    assert await kit.files.read_all(file.id, 5) == b"sound"
    assert await kit.files.info(file.id) == file
    assert (file.name, file.content_type, file.size, file.owner) == ("Grüße.wav", "audio/wav", 5, "key-1")
    assert (file.created_at, file.expires_at) == (kit.clock.now, kit.clock.now + 7 * DAY)
    assert file.path == f"/files/{file.id}/Gr_e.wav"


async def test_an_empty_file_is_a_file(kit: Kit) -> None:
    for data in (b"", chunks()):
        file = await kit.put(data)
        assert (file.size, await read(kit.files, file.id)) == (0, b"")


async def test_a_large_file_comes_and_goes_in_pieces(kit: Kit) -> None:
    data = counting(20 * MIB + 7)
    file = await kit.put(chunks(data[:5], data[5 : 17 * MIB], b"", data[17 * MIB :]))
    assert file.size == len(data)
    assert await read(kit.files, file.id) == data
    for start, end in (
        (0, 1),
        (8 * MIB - 2, 8 * MIB + 2),
        (16 * MIB, None),
        (3, 20 * MIB + 7),
        (7, 7),
        (9 * MIB, 2**40),
    ):
        assert await read(kit.files, file.id, start, end) == data[start:end], (start, end)


async def test_memory_does_not_grow_with_a_file(kit: Kit) -> None:
    largest = 0

    class Watched(Objects):
        async def put(self, key: str, data: bytes, owner: str) -> None:
            nonlocal largest
            largest = max(largest, len(data))
            await super().put(key, data, owner)

    async def long() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield bytes(MIB)

    kit.objects.__class__ = Watched
    file = await kit.put(long())
    assert (file.size, largest) == (30 * MIB, 8 * MIB)
    assert max([len(chunk) async for chunk in kit.files.read(file.id)]) == MIB


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
async def test_a_time_to_live_must_be_one(kit: Kit, seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="kept_seconds: must be above 0"):
        await kit.put(seconds=seconds)


async def test_a_file_is_unknown_when_its_time_is_over(kit: Kit) -> None:
    short, default = await kit.put(seconds=60), await kit.put()
    forever = await kit.put(seconds=math.inf)
    kit.clock.now += 60
    with pytest.raises(UnknownFile, match="has expired"):
        await kit.files.info(short.id)
    with pytest.raises(UnknownFile):
        await read(kit.files, short.id)
    kit.clock.now += 7 * DAY
    with pytest.raises(UnknownFile):
        await kit.files.info(default.id)
    assert (await kit.files.info(forever.id)).expires_at is None
    assert await kit.sweep_all() == 2
    assert await read(kit.files, forever.id) == b"sound"


async def test_files_are_kept_for_good_where_the_setting_says_so(kit: Kit) -> None:
    kit.files = kit.with_settings(kept_seconds=0)
    assert (await kit.put()).expires_at is None


async def test_what_is_not_there_is_unknown(kit: Kit) -> None:
    for file_id in ("", "nobody", "../../etc/passwd", "%", "' OR 1=1", "x" * 10_000, "\u2028"):
        with pytest.raises(UnknownFile):
            await kit.files.info(file_id)
    await kit.files.delete("nobody")


async def test_a_deleted_file_is_unknown_at_once_and_its_bytes_go_later(kit: Kit) -> None:
    file = await kit.put()
    await kit.files.delete(file.id)
    with pytest.raises(UnknownFile):
        await kit.files.info(file.id)
    assert await kit.files.sweep() == 0
    assert await kit.sweep_all() == 1
    assert await kit.sweep_all() == 0


async def test_a_deletion_does_not_disturb_who_is_reading(kit: Kit) -> None:
    data = counting(10 * MIB)
    file = await kit.put(data)
    reading = kit.files.read(file.id)
    heard = [await anext(reading)]
    await kit.files.delete(file.id)
    await kit.files.sweep()
    heard += [chunk async for chunk in reading]
    assert b"".join(heard) == data


async def test_two_writers_of_one_id_end_with_one_file(kit: Kit) -> None:
    both = await asyncio.gather(*(kit.put(bytes([n]) * 1000, file_id="job-1") for n in range(8)))
    assert len(set(both)) == 1
    stored = await read(kit.files, "job-1")
    assert len(stored) == 1000 and len(set(stored)) == 1
    assert await kit.sweep_all() == 7
    assert await read(kit.files, "job-1") == stored


async def test_the_second_write_of_an_id_changes_nothing(kit: Kit) -> None:
    first = await kit.put(b"first", file_id="job-1")
    assert await kit.put(b"the second run says something else", file_id="job-1", name="b.mp3") == first
    assert await read(kit.files, "job-1") == b"first"


async def test_an_id_whose_file_has_expired_is_free(kit: Kit) -> None:
    await kit.put(b"first", file_id="job-1", seconds=5)
    kit.clock.now += 5
    second = await kit.put(b"second", file_id="job-1")
    assert await read(kit.files, "job-1") == b"second"
    assert await kit.sweep_all() == 1
    assert await kit.files.info("job-1") == second


async def test_a_writer_that_fails_leaves_nothing(kit: Kit) -> None:
    async def dies() -> AsyncIterator[bytes]:
        yield bytes(9 * MIB)
        raise ConnectionResetError

    kit.files = kit.with_settings(quota_bytes=10 * MIB)
    with pytest.raises(ConnectionResetError):
        await kit.put(dies(), file_id="job-1")
    with pytest.raises(UnknownFile):
        await kit.files.info("job-1")
    await kit.put(bytes(10 * MIB), file_id="job-1")  # nor does it count in the quota
    assert await kit.sweep_all() == 1


async def test_a_writer_that_is_cancelled_leaves_nothing(kit: Kit) -> None:
    begun = asyncio.Event()

    async def waits() -> AsyncIterator[bytes]:
        yield bytes(9 * MIB)
        begun.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(kit.put(waits(), file_id="job-1"))
    await asyncio.wait_for(begun.wait(), 60)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    with pytest.raises(UnknownFile):
        await kit.files.info("job-1")
    assert await kit.sweep_all() == 1


async def test_a_writer_that_vanishes_is_swept(kit: Kit) -> None:
    """As after kill -9: what it began is known, and nobody tidies up."""

    piece_stored = asyncio.Event()

    async def vanishes() -> AsyncIterator[bytes]:
        yield bytes(9 * MIB)
        piece_stored.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(kit.put(vanishes()))
    await piece_stored.wait()
    assert await kit.files.sweep() == 0
    kit.clock.now += 3600 + GRACE_SECONDS + 1
    assert await kit.files.sweep() == 1
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_an_upload_that_takes_too_long_is_refused(kit: Kit) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        kit.clock.now += 3601

    with pytest.raises(UnknownUpload, match="took longer than"):
        await kit.put(slow())


async def test_a_file_over_the_limit_is_refused_before_it_has_all_arrived(kit: Kit) -> None:
    arrived = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal arrived
        while True:
            arrived += MIB
            yield bytes(MIB)

    kit.files = kit.with_settings(max_file_bytes=10 * MIB)
    with pytest.raises(FileTooLarge, match="file: is larger than 10485760 bytes: send"):
        await kit.put(endless())
    assert arrived <= 17 * MIB
    assert (await kit.put(bytes(10 * MIB))).size == 10 * MIB
    with pytest.raises(FileTooLarge):
        await kit.put(bytes(10 * MIB + 1))


async def test_a_file_too_large_to_be_read_at_once_is_refused(kit: Kit) -> None:
    file = await kit.put()
    with pytest.raises(FileTooLarge, match="has 5 bytes, the limit here is 4"):
        await kit.files.read_all(file.id, 4)


async def test_a_key_has_its_quota(kit: Kit) -> None:
    kit.files = kit.with_settings(quota_bytes=1000)
    first = await kit.put(bytes(600))
    with pytest.raises(QuotaExceeded, match="may take 1000 bytes together"):
        await kit.put(bytes(401))
    await kit.put(bytes(400))
    await kit.put(bytes(1000), owner="another")
    await kit.files.delete(first.id)
    await kit.put(bytes(600), seconds=60)
    kit.clock.now += 60
    await kit.files.sweep()
    await kit.put(bytes(600))


async def test_uploads_at_once_do_not_share_the_last_room(kit: Kit) -> None:
    kit.files = kit.with_settings(quota_bytes=1000)
    results = await asyncio.gather(*(kit.put(bytes(400)) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, StoredFile) for result in results) == 2
    assert all(isinstance(result, StoredFile | QuotaExceeded) for result in results)


async def test_parts_make_a_file_in_the_order_of_their_numbers(kit: Kit) -> None:
    upload = await kit.files.multipart.begin(name="big.wav", content_type="audio/wav", owner="k", seconds=60)
    data = counting(2500)
    etags = {n: await kit.files.multipart.put_part(upload.id, n, data[(n - 1) * 1000 : n * 1000]) for n in (3, 1, 2)}
    with pytest.raises(UnknownFile):
        await kit.files.info(upload.file_id)
    file = await kit.files.multipart.complete(upload.id, [(n, f'"{etags[n]}"') for n in (2, 3, 1)])
    assert (file.id, file.path, file.size) == (upload.file_id, upload.path, 2500)
    assert file.expires_at == kit.clock.now + 60
    assert await read(kit.files, file.id) == data
    assert await kit.files.multipart.complete(upload.id, [(1, etags[1])]) == file
    with pytest.raises(UnknownUpload):
        await kit.files.multipart.put_part(upload.id, 4, b"too late")


async def test_a_part_sent_again_takes_the_place_of_the_first(kit: Kit) -> None:
    upload = await kit.files.multipart.begin(name="a", content_type="", owner="k")
    first = await kit.files.multipart.put_part(upload.id, 1, b"first")
    second = await kit.files.multipart.put_part(upload.id, 1, b"second")
    with pytest.raises(InvalidRequest, match="part 1 was not received with this etag"):
        await kit.files.multipart.complete(upload.id, [(1, first)])
    file = await kit.files.multipart.complete(upload.id, [(1, second)])
    assert await read(kit.files, file.id) == b"second"
    assert await kit.sweep_all() == 1


async def test_parts_that_are_not_there_cannot_be_completed(kit: Kit) -> None:
    upload = await kit.files.multipart.begin(name="a", content_type="", owner="k")
    etag = await kit.files.multipart.put_part(upload.id, 1, b"one")
    for parts in ([], [(2, etag)], [(1, "")], [(1, etag), (2, etag)], [(-1, "x"), (1, etag)]):
        with pytest.raises(InvalidRequest, match=r"^parts: "):
            await kit.files.multipart.complete(upload.id, parts)
    for number in (0, -1, 10_001, 2**70):
        with pytest.raises(InvalidRequest, match="part_number: must be from 1 to 10000"):
            await kit.files.multipart.put_part(upload.id, number, b"")


async def test_parts_nobody_wanted_are_swept(kit: Kit) -> None:
    upload = await kit.files.multipart.begin(name="a", content_type="", owner="k")
    wanted, _ = (
        await kit.files.multipart.put_part(upload.id, 1, b"1"),
        await kit.files.multipart.put_part(upload.id, 2, b"2"),
    )
    file = await kit.files.multipart.complete(upload.id, [(1, wanted)])
    assert await kit.sweep_all() == 1
    assert await read(kit.files, file.id) == b"1"


async def test_an_upload_ends_when_it_takes_too_long(kit: Kit) -> None:
    late = await kit.files.multipart.begin(name="a", content_type="", owner="k")
    etag = await kit.files.multipart.put_part(late.id, 1, b"1")
    kit.clock.now += 3600
    for call in (kit.files.multipart.put_part(late.id, 2, b"2"), kit.files.multipart.complete(late.id, [(1, etag)])):
        with pytest.raises(UnknownUpload, match=f"upload {late.id} is not known"):
            await call
    assert await kit.sweep_all() == 1
    with pytest.raises(UnknownUpload):
        await kit.files.multipart.put_part("nobody", 1, b"")


async def test_parts_are_held_to_the_limits_of_files(kit: Kit) -> None:
    kit.files = kit.with_settings(max_file_bytes=1024, quota_bytes=1500)
    upload = await kit.files.multipart.begin(name="a", content_type="", owner="k")
    for _ in range(3):
        await kit.files.multipart.put_part(upload.id, 1, bytes(1000))  # sent again, it counts once
    with pytest.raises(FileTooLarge):
        await kit.files.multipart.put_part(upload.id, 2, bytes(25))
    other = await kit.files.multipart.begin(name="a", content_type="", owner="k")
    with pytest.raises(QuotaExceeded):
        await kit.files.multipart.put_part(other.id, 1, bytes(501))
    with pytest.raises(FileTooLarge, match="send smaller parts"):
        await kit.files.multipart.put_part(other.id, 1, bytes(32 * MIB + 1))


async def test_completing_at_once_makes_one_file(kit: Kit) -> None:
    upload = await kit.files.multipart.begin(name="a", content_type="", owner="k")
    etag = await kit.files.multipart.put_part(upload.id, 1, b"1")
    files = await asyncio.gather(*(kit.files.multipart.complete(upload.id, [(1, etag)]) for _ in range(5)))
    assert len(set(files)) == 1


async def test_sweepers_do_not_disturb_each_other(kit: Kit) -> None:
    for _ in range(5):
        await kit.put(seconds=1)
    kit.clock.now += 1
    await kit.files.sweep()
    kit.clock.now += GRACE_SECONDS + 1
    await asyncio.gather(*(kit.files.sweep() for _ in range(3)))
    assert await kit.files.sweep() == 0


async def test_a_swept_folder_holds_no_file(database: Database, tmp_path: Path) -> None:
    kit = Kit(database, Objects.open(FileSettings(), tmp_path))
    for _ in range(3):
        await kit.put(seconds=1)
    stored = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert len(stored) == 3
    # As obstore leaves it when its process is killed while it writes.
    stored[0].with_name(f"{stored[0].name}#1").write_bytes(b"half")
    kit.clock.now += 2
    await kit.sweep_all()
    assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


async def test_a_store_that_fails_is_a_clear_error(database: Database, tmp_path: Path, caplog) -> None:
    kit = Kit(database, Objects.open(FileSettings(), tmp_path))
    file = await kit.put(name="private name")
    for path in (tmp_path / "files").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(StorageFailed, match="the file store does not answer or refuses; try again later"):
        await kit.files.read_all(file.id, 100)
    assert "private name" not in caplog.text


async def test_a_store_that_is_not_there_is_a_clear_error(
    database: Database, tmp_path: Path, s3_settings: Callable[..., FileSettings]
) -> None:
    settings = s3_settings()
    kit = Kit(database, Objects.open(settings.model_copy(update={"url": "s3://no-such-bucket/"}), tmp_path))
    with pytest.raises(StorageFailed):
        await kit.put()
    assert kit.clock.now and not await kit.files.sweep()


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "nonsense"},
        {"url": "ftp://host/x"},
        {"url": "s3://"},
        {"url": "s3://bucket", "options": {"no_such_option": "hunter2"}},
        {"url": "file:///no/such/folder"},
    ],
    ids=str,
)
def test_settings_that_name_no_store_are_refused_in_one_line(settings: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"^files\.url or files\.options: .*or name s3://") as caught:
        Objects.open(FileSettings.model_validate(settings), tmp_path)
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file")
    with pytest.raises(StartupError):
        Objects.open(FileSettings(), tmp_path)


def test_secrets_of_the_store_are_not_shown(s3_settings: Callable[..., FileSettings]) -> None:
    assert "secret_access_key" in repr(s3_settings()) and "'test'" not in repr(s3_settings())


async def test_a_file_can_be_kept_for_longer_and_not_for_less(kit: Kit) -> None:
    file = await kit.put(seconds=100)
    assert await kit.files.keep(file.id, 500)
    assert await kit.files.keep(file.id, 10)
    assert (await kit.files.info(file.id)).expires_at == kit.clock.now + 500
    for_good = await kit.put(seconds=math.inf)
    assert await kit.files.keep(for_good.id, 500)
    assert (await kit.files.info(for_good.id)).expires_at is None
    kit.clock.now += 500
    assert not await kit.files.keep(file.id, 500)
    assert not await kit.files.keep("nobody", 500)


async def test_a_part_sent_again_and_again_does_not_fill_the_disk(kit: Kit) -> None:
    kit.files = kit.with_settings(quota_bytes=1000)
    upload = await kit.files.multipart.begin(name="a", content_type="", owner="k")
    for _ in range(4):
        await kit.files.multipart.put_part(upload.id, 1, bytes(1000))
    with pytest.raises(QuotaExceeded, match="still on the disk"):
        await kit.files.multipart.put_part(upload.id, 1, bytes(1000))
    await kit.put(bytes(1000), owner="another")
