"""Which keys are good, for how long, and what can be learnt from those that are not."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from serve_app.errors import Forbidden, InvalidRequest, Unauthorized, UnknownKey
from serve_app.keys.key import ANONYMOUS, Key, KeyLimits, Scope
from serve_app.keys.keys import Keys
from serve_app.keys.tables import KEYS
from serve_app.settings import KeySettings
from tests.support.key_replicas import Clock, CountingDatabase

UNKNOWN = f"csm_{'0' * 16}:{'x' * 43}"


@pytest.fixture
def new_replica(database: CountingDatabase, clock: Clock) -> Callable[..., Keys]:
    """Each remembers for itself."""
    return lambda **settings: Keys(database, KeySettings(**settings), clock)


@pytest.fixture
def keys(new_replica: Callable[..., Keys]) -> Keys:
    return new_replica()


async def refusal(keys: Keys, plaintext: str) -> str:
    with pytest.raises(Unauthorized) as refused:
        await keys.check(plaintext)
    return str(refused.value)


def with_another_secret(plaintext: str) -> str:
    return plaintext[:-2] + ("aa" if plaintext[-2:] != "aa" else "bb")


async def test_a_key_is_good_on_every_replica(keys: Keys, new_replica: Callable[..., Keys]) -> None:
    key, plaintext = keys.create("Ann", [Scope.SPEECH], 60, 2)
    assert key == Key(key.id, "Ann", frozenset({Scope.SPEECH}), KeyLimits(60, 2))
    assert plaintext.startswith(f"{key.id}:")
    assert await keys.check(plaintext) == await new_replica().check(plaintext) == key


async def test_a_new_key_may_speak_and_keep_files(keys: Keys) -> None:
    assert keys.create("Ann")[0].scopes == {Scope.SPEECH, Scope.FILES}


async def test_a_missing_scope_is_named(keys: Keys) -> None:
    key, _ = keys.create("Ann", [Scope.FILES])
    key.require(Scope.FILES)
    with pytest.raises(Forbidden, match="lacks the scope speech: use one that was created with --scope speech"):
        key.require(Scope.FILES, Scope.SPEECH)
    ANONYMOUS.require(*Scope)


def test_no_two_keys_are_alike(keys: Keys) -> None:
    halves = [half for _ in range(20) for half in keys.create("Ann")[1].split(":")]
    assert len(set(halves)) == 40


def test_the_database_holds_no_secret(keys: Keys, database: CountingDatabase) -> None:
    key, first = keys.create("Ann")
    second = keys.rotate(key.id, 60)
    with database.reading() as connection:
        kept = repr(connection.execute(select(KEYS)).all())
    for plaintext in (first, second):
        assert plaintext.partition(":")[2] not in kept


async def test_nobody_learns_which_ids_there_are(keys: Keys, database: CountingDatabase) -> None:
    """Same words, and the same way through the database, asked for the first time or again."""
    _, good = keys.create("Ann")
    revoked, was_good = keys.create("Ben")
    keys.revoke(revoked.id)
    await keys.check(good)
    told = set()
    for plaintext in (UNKNOWN, with_another_secret(good), was_good) * 2:
        before = database.num_reads
        told.add(await refusal(keys, plaintext))
        assert database.num_reads == before + 1
    assert len(told) == 1


@pytest.mark.parametrize(
    "garble",
    [
        lambda plaintext: "",
        lambda plaintext: ":",
        lambda plaintext: plaintext.partition(":")[0],
        lambda plaintext: plaintext.partition(":")[2],
        lambda plaintext: plaintext + "a",
        lambda plaintext: plaintext + "\n",
        lambda plaintext: " " + plaintext,
        lambda plaintext: plaintext.upper(),
        lambda plaintext: plaintext.replace(":", "::"),
        lambda plaintext: plaintext[:-1] + "\0",
        lambda plaintext: plaintext[:-1] + "ä",
        lambda plaintext: plaintext.replace("csm_", "csm_\u0660")[:-1],
        lambda plaintext: plaintext * 10_000,
        lambda plaintext: "' OR 1=1 --:" + "x" * 43,
    ],
    ids=[
        "empty", "colon", "id", "secret", "longer", "newline", "space", "upper", "colons", "nul", "umlaut", "digit",
        "huge", "sql",
    ],
)  # fmt: skip
async def test_what_is_no_key_never_reaches_the_database(
    keys: Keys, database: CountingDatabase, garble: Callable[[str], str]
) -> None:
    _, plaintext = keys.create("Ann")
    garbled = garble(plaintext)
    message = await refusal(keys, garbled)
    assert database.num_reads == 0
    assert message == "this is not a key: send all of it, ID:SECRET, as csm-serve keys create showed it"


async def test_a_good_key_is_remembered_for_a_while(keys: Keys, database: CountingDatabase, clock: Clock) -> None:
    _, plaintext = keys.create("Ann")
    for _ in range(3):
        await keys.check(plaintext)
    assert database.num_reads == 1
    clock.seconds += 5
    await keys.check(plaintext)
    assert database.num_reads == 2


async def test_revoking_acts_everywhere_once_the_memory_is_over(
    keys: Keys, new_replica: Callable[..., Keys], clock: Clock
) -> None:
    key, plaintext = keys.create("Ann")
    other = new_replica()
    await other.check(plaintext)
    await other.find(key.id)
    keys.revoke(key.id)
    clock.seconds += 4.9
    assert await other.check(plaintext) == key
    clock.seconds += 0.1
    await refusal(other, plaintext)
    with pytest.raises(Unauthorized, match="was revoked"):
        await other.find(key.id)


async def test_a_key_is_found_by_its_id(keys: Keys) -> None:
    key, _ = keys.create("Ann")
    assert await keys.find(key.id) == key
    with pytest.raises(Unauthorized):
        await keys.find("csm_0000000000000000")


async def test_both_secrets_count_after_a_rotation_and_the_old_one_only_for_its_grace(keys: Keys, clock: Clock) -> None:
    key, old = keys.create("Ann")
    await keys.check(old)
    new = keys.rotate(key.id, 60)
    assert new != old
    clock.seconds += 58
    assert await keys.check(new) == await keys.check(old) == key
    clock.seconds += 2  # less than what is remembered otherwise
    await refusal(keys, old)
    assert await keys.check(new) == key


async def test_a_second_rotation_ends_the_first_secret(keys: Keys) -> None:
    key, first = keys.create("Ann")
    second = keys.rotate(key.id, 60)
    third = keys.rotate(key.id, 60)
    await refusal(keys, first)
    assert await keys.check(second) == await keys.check(third) == key


async def test_a_secret_that_leaked_can_be_ended_at_once(keys: Keys) -> None:
    key, leaked = keys.create("Ann")
    keys.rotate(key.id, 0)
    await refusal(keys, leaked)


async def test_a_revoked_key_cannot_be_brought_back(keys: Keys) -> None:
    key, plaintext = keys.create("Ann")
    keys.rotate(key.id, 60)
    keys.revoke(key.id)
    await refusal(keys, plaintext)
    for change in (lambda: keys.rotate(key.id, 60), lambda: keys.revoke(key.id), lambda: keys.revoke("csm_1")):
        with pytest.raises(UnknownKey, match="csm-serve keys list"):
            change()


async def test_limits_that_a_key_does_not_have_are_the_servers(keys: Keys, new_replica: Callable[..., Keys]) -> None:
    _, own = keys.create("own", audio_seconds_per_minute=10, concurrency=0)
    _, usual = keys.create("usual")
    other = new_replica(audio_seconds_per_minute=120, concurrency=3)
    assert (await other.check(own)).limits == KeyLimits(10, 0)
    assert (await other.check(usual)).limits == KeyLimits(120, 3)
    assert (await keys.check(usual)).limits == KeyLimits()


async def test_a_scope_of_a_newer_server_is_left_out(keys: Keys, database: CountingDatabase) -> None:
    _, plaintext = keys.create("Ann")
    with database.writing() as connection:
        connection.execute(update(KEYS).values(scopes="files voices"))
    assert (await keys.check(plaintext)).scopes == {Scope.FILES}


async def test_the_last_use_is_noted_once_a_minute(
    new_replica: Callable[..., Keys], database: CountingDatabase, clock: Clock
) -> None:
    keys, other = new_replica(cached_seconds=0), new_replica(cached_seconds=0)
    _, plaintext = keys.create("Ann")
    assert keys.records()[0].last_used_at is None
    used = []
    for _ in range(7):
        for replica in (keys, other):
            await replica.check(plaintext)
            while replica._notes:
                await asyncio.sleep(0.01)
        used.append(keys.records()[0].last_used_at)
        clock.seconds += 20
    start = clock.seconds - 140
    assert used == [start] * 3 + [start + 60] * 3 + [start + 120]
    assert database.num_writes == 3


def test_records_tell_a_keys_history(keys: Keys, clock: Clock) -> None:
    first, _ = keys.create("Ann")
    clock.seconds += 10
    second, _ = keys.create("Ben")
    keys.rotate(first.id, 60)
    keys.revoke(second.id)
    records = keys.records()
    assert [record.key for record in records] == [first, second]
    now = clock.seconds
    assert [(r.created_at, r.revoked_at, r.previous_until) for r in records] == [
        (now - 10, None, now + 60), (now, now, None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "a\x1b[2J"}, "name"),
        ({"name": "a" * 101}, "name"),
        ({"name": "Ann", "audio_seconds_per_minute": -1}, "audio_seconds_per_minute"),
        ({"name": "Ann", "audio_seconds_per_minute": float("nan")}, "audio_seconds_per_minute"),
        ({"name": "Ann", "concurrency": -1}, "concurrency"),
    ],
    ids=["empty", "blank", "escape", "long", "audio", "nan", "concurrency"],
)
def test_a_key_that_makes_no_sense_is_not_created(keys: Keys, values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        keys.create(**values)
    assert refused.value.field == field
    assert keys.records() == []


async def test_what_was_issued_for_a_secret_dies_with_it(keys: Keys, clock: Clock, new_replica: Any) -> None:
    key, plaintext = keys.create("Ann", [Scope.SPEECH])
    first = (await keys.check(plaintext)).generation
    assert await new_replica().confirm(key.id, first) == key
    second = (await keys.check(keys.rotate(key.id, grace_seconds=60))).generation
    assert first != second and first not in plaintext
    for generation in (first, second):
        assert (await new_replica().confirm(key.id, generation)).generation == generation
    clock.seconds += 61
    assert await new_replica().confirm(key.id, second) == key
    for generation in (first, "", "x"):
        with pytest.raises(Unauthorized):
            await new_replica().confirm(key.id, generation)


async def test_a_rotation_without_grace_and_a_revocation_act_within_the_cached_time(keys: Keys, clock: Clock) -> None:
    key, plaintext = keys.create("Ann")
    first = (await keys.check(plaintext)).generation
    await keys.confirm(key.id, first)
    second = (await keys.check(keys.rotate(key.id, grace_seconds=0))).generation
    await keys.confirm(key.id, second)
    keys.revoke(key.id)
    clock.seconds += 5.1
    for generation in (first, second):
        with pytest.raises(Unauthorized, match="was revoked or has a new secret"):
            await keys.confirm(key.id, generation)


async def test_streams_whose_check_ends_together_ask_once(keys: Keys, database: CountingDatabase, clock: Clock) -> None:
    """All open streams of a key are checked again at the same moment. Each alone would fill the database's line."""
    key = await keys.check(keys.create("Ann")[1])
    await keys.confirm(key.id, key.generation)
    clock.seconds += KeySettings().cached_seconds
    before = database.num_reads
    await asyncio.gather(*(keys.confirm(key.id, key.generation) for _ in range(50)))
    assert database.num_reads == before + 1
