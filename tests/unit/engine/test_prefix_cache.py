"""What was read once is not read again, and nothing else changes: in float64 the tokens are the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from serve_app.engine.prefix_cache import CachedPiece, PrefixCache
from serve_app.engine.prompt import Piece
from serve_app.engine.tier_copies import PinnedCopies
from serve_app.messages import ContextSegment, FinishReason, GenerationRequest
from tests.support.engine_harness import Harness, Stream, random_segment, request

VOICE = random_segment(32, 64, 30, seed=1)
OTHER = random_segment(32, 64, 30, seed=2)


@pytest.fixture(scope="module")
def uncached(tiny_checkpoint_folder: Path) -> Harness:
    torch.set_num_threads(1)
    return Harness(tiny_checkpoint_folder, torch.float64, prefix_cache_mb=0)


@pytest.fixture
def cached(tiny_checkpoint_folder: Path) -> Harness:
    torch.set_num_threads(1)
    return Harness(tiny_checkpoint_folder, torch.float64, prefill_chunk_tokens=16)


def restored(stream: Stream) -> int:
    assert stream.sequence is not None
    return stream.sequence.num_restored


def context_of(asked: GenerationRequest, stream: Stream) -> ContextSegment:
    return ContextSegment(asked.text, asked.speaker, stream.codes)


def test_a_voice_is_read_once(cached: Harness, uncached: Harness) -> None:
    first, second = request("One.", VOICE, seed=1), request("Quite another text.", VOICE, seed=2)
    streams = [cached.run(first)[0], cached.run(second)[0]]
    assert [s.frames for s in streams] == [uncached.run(one)[0].frames for one in (first, second)]
    assert streams[1].sequence is not None
    # All of the segment but the frame of zeros that ends it.
    assert [restored(s) for s in streams] == [0, streams[1].sequence.prompt.pieces[0].end]
    stats = cached.engine.stats()
    assert stats.restored_positions == restored(streams[1])
    assert stats.prompt_positions > 2 * stats.restored_positions


@pytest.mark.parametrize(
    "other",
    [OTHER, replace(VOICE, text="otherwise"), replace(VOICE, speaker=3)],
    ids=["other audio", "other text", "other speaker"],
)
def test_another_context_is_not_taken_for_it(cached: Harness, uncached: Harness, other: ContextSegment) -> None:
    cached.run(request("One.", VOICE, seed=1))
    asked = request("One.", other, seed=1)
    stream = cached.run(asked)[0]
    assert restored(stream) == 0
    assert stream.frames == uncached.run(asked)[0].frames


def test_what_two_contexts_share_is_read_once(cached: Harness, uncached: Harness) -> None:
    cached.run(request("One.", VOICE, OTHER, seed=1))
    asked = request("Two.", VOICE, replace(OTHER, text="in other words"), seed=2)
    stream = cached.run(asked)[0]
    assert stream.sequence is not None
    assert restored(stream) == stream.sequence.prompt.pieces[0].end
    assert stream.frames == uncached.run(asked)[0].frames
    # The same segment after another one is another piece.
    assert restored(cached.run(request("Three.", OTHER, seed=3))[0]) == 0


@pytest.mark.parametrize("num_turns", [2, 4])
def test_the_turns_of_a_scene_are_not_read_again(cached: Harness, uncached: Harness, num_turns: int) -> None:
    context: tuple[ContextSegment, ...] = (VOICE,)
    for number in range(num_turns):
        asked = replace(request(f"Turn {number}.", *context, speaker=number % 2, seed=number), becomes_context=True)
        mates = [request("A mate that leaves early.", seed=9, max_frames=3), request("Another.", seed=8, max_frames=5)]
        stream = cached.run(mates[0], asked, mates[1])[1]
        assert stream.frames == uncached.run(asked)[0].frames
        if number:
            assert stream.sequence is not None
            # The last frame of a turn cut off by its length was never fed back: one position is read after all.
            assert restored(stream) == stream.sequence.prompt.pieces[-1].end - 1
        context = (*context, context_of(asked, stream))


def test_a_turn_that_ended_by_itself_is_kept_to_its_last_frame(cached: Harness, uncached: Harness) -> None:
    asked = replace(request("Hi.", greedy=True), becomes_context=True)
    stream = cached.add(asked)
    for _ in range(5):
        cached.engine.step()
    heads = (cached.model.first_head, cached.model.depth_heads)
    weights = [head.clone() for head in heads]
    for head in heads:
        head.zero_()  # greedily that is a frame of zeros, the end of speech
    cached.finish()
    for head, weight in zip(heads, weights, strict=True):
        head.copy_(weight)
    assert (stream.finish, stream.codes.num_frames) == (FinishReason.EOS, 5)
    follows = request("And then?", context_of(asked, stream), seed=3)
    following = cached.run(follows)[0]
    assert following.sequence is not None
    assert restored(following) == following.sequence.prompt.pieces[0].end
    assert following.frames == uncached.run(follows)[0].frames


def test_without_being_asked_nothing_spoken_is_kept(cached: Harness) -> None:
    asked = request("Hi.", seed=1)
    stream = cached.run(asked)[0]
    assert cached.prefixes.on_device.num_bytes == 0
    assert restored(cached.run(request("And then?", context_of(asked, stream)))[0]) == 0


def test_a_request_that_left_while_it_was_read_leaves_only_whole_pieces(cached: Harness, uncached: Harness) -> None:
    leaves = cached.add(request("Gone.", VOICE, OTHER, seed=1))
    for _ in range(4):  # the first piece is 49 positions, 16 are read a step
        cached.engine.step()
    assert leaves.sequence is not None
    cached.engine.abort(leaves.sequence)
    asked = request("Here.", VOICE, OTHER, seed=2)
    stream = cached.run(asked)[0]
    assert stream.sequence is not None
    assert restored(stream) == stream.sequence.prompt.pieces[0].end
    assert stream.frames == uncached.run(asked)[0].frames


def piece(key: bytes, start: int, size: int) -> tuple[Piece, CachedPiece]:
    return Piece(key, start, start + size), CachedPiece(start, start + size, torch.zeros(1, 2, 1, size, 1))


BYTES = 8  # a position of `piece`
KEYS = (b"a", b"b", b"c", b"d")


def num_bytes(cache: PrefixCache) -> tuple[int, int]:
    return cache.on_device.num_bytes, cache.on_host.num_bytes


def chain(cache: PrefixCache, *links: tuple[Piece, CachedPiece]) -> list[int]:
    return [found.end for found in cache.longest_prefix(tuple(link for link, _ in links))]


def test_a_chain_ends_at_its_first_gap() -> None:
    cache = PrefixCache(torch.device("cpu"), 100 * BYTES, 0)
    links = [piece(b"a", 0, 5), piece(b"b", 5, 5), piece(b"c", 10, 5)]
    for link, cached in (links[0], links[2]):
        cache.put(link.key, cached)
    assert chain(cache, *links) == [5]
    cache.put(b"b", CachedPiece(5, 9, links[1][1].kv))
    assert chain(cache, *links) == [5, 9], "a piece kept in part ends the chain"


def test_the_end_of_the_least_used_chain_goes_first() -> None:
    cache = PrefixCache(torch.device("cpu"), 20 * BYTES, 0)
    old = [piece(b"a", 0, 5), piece(b"b", 5, 5)]
    new = [piece(b"x", 0, 5), piece(b"y", 5, 5)]
    for link, cached in old + new:
        cache.put(link.key, cached)
    chain(cache, *new)
    chain(cache, *old)
    link, cached = piece(b"z", 10, 5)
    cache.put(link.key, cached)
    assert chain(cache, *new) == [5]
    assert chain(cache, *old) == [5, 10]
    assert cache.on_device.num_bytes == 20 * BYTES


def test_what_is_larger_than_the_budget_is_not_kept() -> None:
    cache = PrefixCache(torch.device("cpu"), 4 * BYTES, 0)
    link, cached = piece(b"a", 0, 5)
    cache.put(link.key, cached)
    assert cache.on_device.num_bytes == 0
    assert chain(cache, (link, cached)) == []


def test_on_a_gpu_the_host_takes_what_the_device_gives_up() -> None:
    # "meta" stands for the device: it is not the CPU, and needs no driver.
    cache = PrefixCache(torch.device("meta"), 5 * BYTES, 10 * BYTES)
    links = [piece(b"a", 0, 5), piece(b"b", 5, 5), piece(b"c", 10, 5)]
    for link, cached in links:
        cache.put(link.key, cached)
    assert num_bytes(cache) == (5 * BYTES, 10 * BYTES)
    link, cached = piece(b"d", 15, 5)
    cache.put(link.key, cached)
    assert [key in cache.on_device for key in KEYS] == [False, False, False, True]
    assert [key in cache.on_host for key in KEYS] == [False, True, True, False]
    found = cache.longest_prefix((links[1][0],))
    assert found[0].kv.device.type == "meta"
    assert [key in cache.on_device for key in KEYS] == [False, True, False, False]
    assert [key in cache.on_host for key in KEYS] == [False, False, True, True]
    assert num_bytes(cache) == (5 * BYTES, 10 * BYTES)


class Recorder:
    """Stands for `torch.cuda`, its streams and the tensors on a card: notes what is asked of them, in order."""

    def __init__(self, name: str = "current", asked: list[str] | None = None) -> None:
        self.name, self.asked = name, [] if asked is None else asked

    def Stream(self, device: torch.device) -> "Recorder":
        return Recorder("side", self.asked)

    def current_stream(self, device: torch.device) -> "Recorder":
        return self

    def wait_stream(self, other: "Recorder") -> None:
        self.asked.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def stream(self, stream: "Recorder") -> Iterator[None]:
        self.asked.append(f"on {stream.name}")
        yield
        self.asked.append("on current")

    def copy_(self, source: "Recorder", non_blocking: bool) -> None:
        self.asked.append(f"{source.name} to {self.name}{'' if non_blocking else ', waited for'}")

    def to(self, device: torch.device, non_blocking: bool) -> "Recorder":
        self.asked.append(f"{self.name} to {device}{'' if non_blocking else ', waited for'}")
        return Recorder("on the card again", self.asked)

    def record_stream(self, stream: "Recorder") -> None:
        self.asked.append(f"{self.name} is kept for {stream.name}")


def test_nobody_waits_for_a_copy_between_the_tiers() -> None:
    cuda: Any = Recorder()
    kv: Any = Recorder("keys", cuda.asked)
    pinned: Any = Recorder("pinned", cuda.asked)
    copies = PinnedCopies(torch.device("meta"), cuda, lambda _: pinned)
    copies.to_device(copies.to_host(kv))
    assert cuda.asked == [
        "side waits for current",
        "on side",
        "keys to pinned",
        "on current",
        "keys is kept for side",
        "current waits for side",
        "pinned to meta",
    ]


def test_a_chain_survives_that_its_end_pushes_its_beginning_out() -> None:
    cache = PrefixCache(torch.device("meta"), 9 * BYTES, 4 * BYTES)
    links = [piece(b"a", 0, 5), piece(b"b", 5, 4)]
    for link, cached in (links[1], links[0], piece(b"x", 0, 4)):
        cache.put(link.key, cached)
    assert b"a" in cache.on_device and b"b" in cache.on_host
    # Bringing "b" to the device evicts "a", and the host has no room for "a".
    assert chain(cache, *links) == [5, 9]
    assert [key in cache.on_device for key in (b"a", b"b", b"x")] == [True, True, False]
    assert num_bytes(cache) == (9 * BYTES, 4 * BYTES)


def test_a_piece_that_is_stored_again_counts_once() -> None:
    cache = PrefixCache(torch.device("cpu"), 20 * BYTES, 0)
    link, cached = piece(b"a", 0, 5)
    cache.put(link.key, cached)
    cache.put(link.key, piece(b"a", 0, 7)[1])
    assert num_bytes(cache) == (7 * BYTES, 0)
