"""The engine's promises, on a small model: same seed same speech, endings, refusals, and slots that come free."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from serve_app.errors import Overloaded
from serve_app.messages import Codes, FinishReason
from tests.support.engine_harness import Harness, random_segment, request


@pytest.fixture(scope="module")
def exact(tiny_checkpoint_folder: Path) -> Harness:
    """In float64 nothing depends on how a batch rounds."""
    torch.set_num_threads(1)
    return Harness(tiny_checkpoint_folder, torch.float64)


@pytest.fixture
def harness(tiny_checkpoint_folder: Path) -> Harness:
    torch.set_num_threads(1)
    return Harness(tiny_checkpoint_folder, max_waiting=2, max_wait_seconds=5)


@pytest.fixture
def ending(tiny_checkpoint_folder: Path) -> Harness:
    """Its heads are all zero: greedily drawn codes are zeros, the end of speech."""
    harness = Harness(tiny_checkpoint_folder)
    harness.model.first_head.zero_()
    harness.model.depth_heads.zero_()
    return harness


KNOBS = [
    dict(seed=1),
    dict(seed=2, temperature=0.6, top_k=5),
    dict(seed=3, top_p=0.8, repetition_penalty=1.3),
    dict(seed=4, greedy=True),
    dict(seed=5, temperature=1.4, top_k=64, min_frames=4),
    dict(seed=6, repetition_penalty=1.1, max_frames=7),
]


def test_a_seed_gives_the_same_tokens_alone_and_among_changing_mates(exact: Harness) -> None:
    asked = [
        request(f"Number {n} speaks.", *[random_segment(32, 64, 5, n)] * (n % 3), speaker=n, **knobs)
        for n, knobs in enumerate(KNOBS)
    ]
    alone = [exact.run(one)[0].frames for one in asked]
    order = random.Random(0)
    for steps_between in (0, 1, 3):
        shuffled = order.sample(range(len(asked)), len(asked))
        streams = exact.run_staggered([asked[n] for n in shuffled], steps_between)
        assert [s.frames for s in streams] == [alone[n] for n in shuffled]


def test_different_seeds_speak_differently(exact: Harness) -> None:
    first, second = exact.run(request("Hi.", seed=1), request("Hi.", seed=2))
    assert first.frames != second.frames


@pytest.mark.parametrize("num_kept", range(1, 10))
def test_a_resumed_sequence_continues_as_if_nothing_had_happened(exact: Harness, num_kept: int) -> None:
    asked = request("Hello.", random_segment(32, 64, 3), seed=9, repetition_penalty=1.2)
    whole = exact.run(asked)[0]
    kept = Codes.from_array(whole.codes.to_array()[:num_kept])
    rest = exact.run(replace(asked, resume=kept), request("A mate.", seed=3))[0]
    assert rest.frames == whole.frames[num_kept:]
    assert rest.messages[0].first_frame == num_kept
    assert rest.finish is FinishReason.LENGTH


def test_a_sequence_resumed_at_its_end_only_says_so(exact: Harness) -> None:
    asked = request("Hello.", seed=9)
    whole = exact.run(asked)[0]
    rest = exact.run(replace(asked, resume=whole.codes))[0]
    assert (rest.codes.num_frames, rest.finish) == (0, FinishReason.LENGTH)
    assert exact.engine.stats().running == 0


def test_a_prompt_prefilled_in_small_pieces_gives_the_same_tokens(tiny_checkpoint_folder: Path) -> None:
    asked = request("Something to say at last.", random_segment(32, 64, 40), seed=5)
    whole = Harness(tiny_checkpoint_folder, torch.float64).run(asked)[0]
    pieces = Harness(tiny_checkpoint_folder, torch.float64, prefill_chunk_tokens=16).run(asked)[0]
    assert pieces.frames == whole.frames


def test_running_streams_go_on_while_a_long_prompt_is_prefilled(tiny_checkpoint_folder: Path) -> None:
    harness = Harness(tiny_checkpoint_folder, prefill_chunk_tokens=16)
    running = harness.add(request("I speak.", max_frames=60))
    for _ in range(2):
        harness.engine.step()
    late = harness.add(request("A long story came before.", random_segment(32, 64, 150)))
    assert running.sequence is not None
    before = running.sequence.num_frames
    while not late.messages:
        harness.engine.step()
    assert running.sequence.num_frames >= before + 10


def test_zeros_end_speech_at_once_and_min_frames_keeps_it_going(ending: Harness) -> None:
    at_once, later = ending.run(request("Hi.", greedy=True), request("Hi.", greedy=True, min_frames=3))
    assert (at_once.codes.num_frames, at_once.finish) == (0, FinishReason.EOS)
    assert (later.codes.num_frames, later.finish) == (3, FinishReason.EOS)
    assert all(frame[0] != 0 for frame in later.frames)


def test_equal_frames_without_end_are_a_runaway(ending: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    # min_frames rules the end out, so the same second-best frame comes again and again.
    stream = ending.run(request("Hi.", greedy=True, min_frames=200, max_frames=200))[0]
    assert stream.finish is FinishReason.RUNAWAY
    assert stream.codes.num_frames == ending.settings.repeated_frames_limit


def test_an_aborted_sequence_frees_its_slot_and_says_no_more(harness: Harness) -> None:
    stays, leaves = harness.add(request("One.", seed=1)), harness.add(request("Two."))
    for _ in range(3):
        harness.engine.step()
    assert leaves.sequence is not None
    harness.engine.abort(leaves.sequence)
    said = len(leaves.messages)
    assert harness.engine.stats().running == 1
    harness.finish()
    assert len(leaves.messages) == said
    assert stays.finish is FinishReason.LENGTH
    harness.engine.abort(leaves.sequence)


def test_a_full_engine_refuses_and_a_long_wait_ends(harness: Harness) -> None:
    streams = [harness.add(request(f"{n}", max_frames=200, min_frames=200)) for n in range(6)]
    harness.engine.step()
    with pytest.raises(Overloaded):
        harness.add(request("one too many"))
    harness.now = 6
    harness.engine.step()
    assert [type(s.error) for s in streams] == [type(None)] * 4 + [Overloaded] * 2
    assert streams[4].accepted is None
    assert harness.engine.stats().waiting == 0


def test_a_sequence_past_its_time_is_dropped(harness: Harness) -> None:
    stream = harness.add(replace(request("Hi.", max_frames=200, min_frames=200), timeout_seconds=2))
    harness.engine.step()
    harness.now = 3
    assert not harness.engine.step()
    assert stream.finish is FinishReason.CANCELLED


def test_every_stream_hears_that_the_model_failed(harness: Harness) -> None:
    streams = [harness.add(request(f"{n}")) for n in range(6)]
    harness.engine.step()
    harness.engine.fail_all()
    assert all(s.error is not None for s in streams)


def test_accepted_tells_what_was_dropped_and_how_long_it_waited(tiny_checkpoint_folder: Path) -> None:
    harness = Harness(tiny_checkpoint_folder, max_batch_size=1, max_positions=128)
    long = random_segment(32, 64, 100)
    first = harness.add(request("a", long, replace(long, anchor=False), max_frames=5))
    second = harness.add(request("b", max_frames=5))
    harness.engine.step()
    harness.now = 1.5
    harness.finish()
    assert first.accepted is not None and second.accepted is not None
    assert (first.accepted.dropped_segments, first.accepted.queue_seconds) == (2, 0)
    assert (second.accepted.dropped_segments, second.accepted.queue_seconds) == (0, 1.5)


def test_reserved_ids_are_never_spoken(harness: Harness) -> None:
    streams = harness.run(*(request("Hot.", seed=n, temperature=5.0, top_k=64, max_frames=40) for n in range(4)))
    assert max(np.max(s.frames) for s in streams) < harness.limits.codebook_size
