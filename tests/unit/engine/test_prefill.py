"""Planning a prefill pass: how the budget is shared, and which prompts wait. It is bookkeeping without a tensor."""

from dataclasses import replace

import numpy as np

from serve_app.engine.prefill import PrefillPass
from serve_app.engine.prompt import Piece, Prompt
from serve_app.engine.sequence import Sequence
from serve_app.messages import GenerationRequest


def sequence(num_to_prefill: int, *pieces: Piece, num_prefilled: int = 0) -> Sequence:
    size = num_to_prefill + 1
    prompt = Prompt(np.zeros(size, np.int64), np.zeros((size, 2), np.int64), 0, 10, 0, pieces)
    request = GenerationRequest("r", "text", 0)
    return Sequence(request, prompt, lambda message: None, 0.0, num_prefilled=num_prefilled)


def planned(prefill: PrefillPass) -> list[tuple[int, int, int]]:
    return [(chunk.row, chunk.start, chunk.end) for chunk in prefill.chunks]


def test_prompts_share_the_budget_and_the_last_one_gets_the_rest() -> None:
    prefill = PrefillPass(50)
    for row, one in enumerate((sequence(20), sequence(40, num_prefilled=25), sequence(30))):
        assert not prefill.is_full
        assert prefill.add(row, one)
    assert planned(prefill) == [(0, 0, 20), (1, 25, 40), (2, 0, 15)]
    assert [chunk.is_last for chunk in prefill.chunks] == [True, True, False]
    assert prefill.is_full


def test_a_prompt_that_was_restored_whole_counts_as_one_position() -> None:
    prefill = PrefillPass(3)
    assert prefill.add(0, sequence(20, num_prefilled=20))
    assert (planned(prefill), prefill.tokens_left) == ([(0, 20, 20)], 2)
    assert prefill.chunks[0].is_last


def test_a_prompt_waits_for_context_that_the_same_pass_reads() -> None:
    voice = Piece(b"voice", 0, 30)
    prefill = PrefillPass(100)
    assert prefill.add(0, sequence(40, voice))
    assert not prefill.add(1, sequence(50, voice))
    assert prefill.add(2, sequence(10, Piece(b"other", 0, 8)))
    assert prefill.add(3, sequence(40, voice, num_prefilled=30)), "it has the voice already"
    assert [chunk.row for chunk in prefill.chunks] == [0, 2, 3]


def test_planning_changes_no_sequence() -> None:
    one = sequence(40, Piece(b"voice", 0, 30))
    before = replace(one)
    PrefillPass(100).add(0, one)
    names = ("num_prefilled", "num_restored", "num_launched", "num_frames", "prompt", "finish")
    assert [getattr(one, name) for name in names] == [getattr(before, name) for name in names]
