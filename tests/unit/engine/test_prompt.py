"""What the backbone reads, and what is left out when it does not fit."""

import numpy as np
import pytest

from serve_app.engine.prompt import ModelLimits, build_prompt
from serve_app.errors import ContextTooLong, InvalidRequest
from serve_app.messages import Codes, ContextSegment, GenerationRequest, SamplingParams

LIMITS = ModelLimits(num_codebooks=2, codebook_size=8, max_positions=40)


class WordTokenizer:
    """BOS, one id a word, EOS."""

    def encode(self, speaker: int, text: str) -> list[int]:
        return [100, *(speaker * 10 + len(word) for word in text.split()), 101]


def segment(text: str, num_frames: int, *, anchor: bool = False, public: bool = False) -> ContextSegment:
    return ContextSegment(text, 1, Codes.from_array(np.full((num_frames, 2), 3)), anchor, public)


def request(text: str, *context: ContextSegment, max_frames: int = 10, **others: object) -> GenerationRequest:
    sampling = SamplingParams(max_frames=max_frames, min_frames=int(str(others.pop("min_frames", 1))))
    return GenerationRequest("r", text, 0, context, sampling, **others)  # pyright: ignore[reportArgumentType]


def test_context_is_text_then_audio_then_a_frame_of_zeros_and_the_target_text_comes_last() -> None:
    prompt = build_prompt(request("say it", segment("hm", 2)), WordTokenizer(), LIMITS)
    assert prompt.text_ids.tolist() == [100, 12, 101, -1, -1, -1, 100, 3, 2, 101]
    assert prompt.frames[3:6].tolist() == [[3, 3], [3, 3], [0, 0]]
    assert not prompt.frames[6:].any()
    assert (prompt.num_resumed, prompt.max_frames, prompt.dropped_segments) == (0, 10, 0)


def test_resumed_frames_follow_the_text_without_an_end_frame() -> None:
    resume = Codes.from_array(np.array([[1, 2], [4, 5]]))
    prompt = build_prompt(request("go", resume=resume), WordTokenizer(), LIMITS)
    assert prompt.text_ids.tolist() == [100, 2, 101, -1, -1]
    assert prompt.frames[3:].tolist() == [[1, 2], [4, 5]]
    assert prompt.num_resumed == 2


def test_what_goes_on_after_some_frames_is_what_a_resumed_request_reads() -> None:
    frames = Codes.from_array(np.array([[1, 2], [4, 5], [3, 3]]))
    context = (segment("hm", 2), segment("so", 3))
    whole = build_prompt(request("go on", *context), WordTokenizer(), LIMITS)
    spoken = frames.to_array()
    early = whole.after(Codes.from_array(spoken[:1]))
    for prompt in (whole.after(frames), early.after(frames)):
        resumed = build_prompt(request("go on", *context, resume=frames), WordTokenizer(), LIMITS)
        assert prompt.text_ids.tolist() == resumed.text_ids.tolist()
        assert prompt.frames.tolist() == resumed.frames.tolist()
        assert (prompt.num_resumed, prompt.max_frames, prompt.pieces) == (3, resumed.max_frames, resumed.pieces)
        assert prompt.chain == (*whole.pieces, whole.spoken_piece(frames))
        assert prompt.chain[-1].end == prompt.num_positions
    assert resumed.chain == resumed.pieces


def test_the_oldest_segment_that_is_no_anchor_is_dropped_first() -> None:
    context = (segment("voice", 5, anchor=True), segment("old", 9), segment("new", 2))
    prompt = build_prompt(request("go", *context), WordTokenizer(), LIMITS)
    assert prompt.dropped_segments == 1
    # anchor 3 + 5 + 1, new 3 + 2 + 1, target 3
    assert prompt.num_positions == 18
    assert prompt.max_frames == 10


def test_a_resumed_request_drops_the_same_segments() -> None:
    context = (segment("voice", 5, anchor=True), segment("old", 9), segment("new", 2))
    resume = Codes.from_array(np.ones((4, 2), int))
    prompt = build_prompt(request("go", *context, resume=resume), WordTokenizer(), LIMITS)
    assert (prompt.dropped_segments, prompt.num_positions, prompt.max_frames) == (1, 18 + 4, 10)


def test_the_answer_is_shortened_when_only_the_anchor_is_left() -> None:
    prompt = build_prompt(request("go", segment("voice", 28, anchor=True)), WordTokenizer(), LIMITS)
    assert (prompt.num_positions, prompt.max_frames) == (35, 5)


def test_what_cannot_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ContextTooLong, match=r"text takes 42 positions.*model's 40.*shorten the text") as caught:
        build_prompt(request("word " * 40), WordTokenizer(), LIMITS)
    assert caught.value.field == "text"
    with pytest.raises(ContextTooLong, match=r"must be kept 37.*shorten the voice's clip") as caught:
        build_prompt(request("go", segment("voice", 33, anchor=True)), WordTokenizer(), LIMITS)
    assert caught.value.field == "context"


def test_the_shortest_answer_counts_min_frames() -> None:
    anchor = segment("voice", 28, anchor=True)
    assert build_prompt(request("go", anchor, min_frames=5), WordTokenizer(), LIMITS).max_frames == 5
    with pytest.raises(ContextTooLong, match="with 6 for speech"):
        build_prompt(request("go", anchor, min_frames=6), WordTokenizer(), LIMITS)


def test_codes_that_the_model_does_not_have_are_refused() -> None:
    for codes in (np.full((1, 2), 8), np.zeros((1, 3), int)):
        bad = ContextSegment("hm", 0, Codes.from_array(codes))
        with pytest.raises(InvalidRequest, match="2 codebooks with values below 8"):
            build_prompt(request("go", bad), WordTokenizer(), LIMITS)


def test_the_prefix_cache_serves_a_key_with_its_own_context_and_with_the_servers_voices() -> None:
    voice, clip = segment("voice", 5, anchor=True, public=True), segment("hm", 2)
    frames = Codes.from_array(np.array([[1, 2]]))

    def keys(owner: str, *context: ContextSegment) -> tuple[list[bytes], bytes]:
        prompt = build_prompt(request("go", *context, owner=owner), WordTokenizer(), LIMITS)
        return [piece.key for piece in prompt.pieces], prompt.spoken_piece(frames).key

    (shared, mine), spoken = keys("a", voice, clip)
    (also_shared, theirs), their_spoken = keys("b", voice, clip)
    assert shared == also_shared
    assert mine != theirs and spoken != their_spoken
    assert keys("a", voice, clip) == ([shared, mine], spoken)
    assert keys("a")[1] != keys("b")[1]
    assert keys("a", voice)[1] != keys("b", voice)[1]
    # Where all callers are one, nothing is kept apart.
    assert keys("", clip) == keys("", segment("hm", 2, public=True))


def test_what_a_key_has_spoken_is_found_again_as_its_context() -> None:
    voice = segment("voice", 5, anchor=True, public=True)
    frames = Codes.from_array(np.array([[1, 2], [4, 5]]))
    first = build_prompt(request("go", voice, owner="a"), WordTokenizer(), LIMITS)
    then = ContextSegment("go", 0, frames)
    second = build_prompt(request("on", voice, then, owner="a"), WordTokenizer(), LIMITS)
    assert second.pieces[-1].key == first.spoken_piece(frames).key
