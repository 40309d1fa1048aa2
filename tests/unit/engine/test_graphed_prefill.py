"""What graphs of prefill are given: every token with its place, in one copy, and the rest is padding."""

import numpy as np
import pytest
import torch
from torch import Tensor

from serve_app.engine.steps.graphed_prefill import PREFILL_BUCKETS, GraphedPrefill, prefill_tables
from serve_app.engine.steps.prefill import PromptChunks
from serve_app.model.adapters.low_rank import LoadedAdapter
from serve_app.model.kernels.arguments import PromptTokens
from serve_app.model.kv_views import TokenRange
from tests.support.tape import TapeDevice

ROWS, POSITIONS, CODEBOOKS = 3, 400, 2
ADAPTER = LoadedAdapter("voice", 4, (), ())


class Memory:
    """A prefill that only notes where each token went: [rows, positions] of its text id or code."""

    def __init__(self) -> None:
        self.written = torch.full((ROWS, POSITIONS + 1), -9)

    def __call__(self, tokens: PromptTokens) -> Tensor:
        value = torch.where(tokens.text_ids < 0, 1000 + tokens.codes[-1], tokens.text_ids)
        return self.written.index_put_(tuple(tokens.places), value)


class Eager:
    def __init__(self) -> None:
        self.was_given: list[PromptChunks] = []

    def read(self, chunks: PromptChunks) -> None:
        self.was_given.append(chunks)


class Graphs:
    def __init__(self) -> None:
        self.memory, self.device, self.eager = Memory(), TapeDevice(), Eager()
        tables = prefill_tables(CODEBOOKS, torch.device("cpu"))
        self.prefill = GraphedPrefill(self.memory, self.device, tables, POSITIONS, self.eager)


def chunks(*ranges: TokenRange, adapter: LoadedAdapter | None = None) -> PromptChunks:
    """Token n of a pass is the text n, or every fifth the frame whose last code is n."""
    numbers = np.arange(sum(tokens.num_tokens for tokens in ranges))
    text_ids, frames = np.where(numbers % 5 == 4, -1, numbers), np.stack((0 * numbers, numbers), axis=1)
    return PromptChunks(text_ids, frames, ranges, [adapter, *[None] * (len(ranges) - 1)])


@pytest.mark.parametrize("num_tokens", [1, 64, 65, 256, 300])
def test_tokens_of_several_prompts_go_to_their_places_and_padding_to_the_spare_one(num_tokens: int) -> None:
    graphs, few = Graphs(), (num_tokens + 2) // 3
    ranges = [TokenRange(2, 7, few), TokenRange(0, 0, num_tokens - few)]
    graphs.prefill.read(chunks(*ranges))
    expected = torch.full((ROWS, POSITIONS), -9)
    numbers = torch.arange(num_tokens)
    values = torch.where(numbers % 5 == 4, 1000 + numbers, numbers)
    expected[2, 7 : 7 + few], expected[0, : num_tokens - few] = values[:few], values[few:]
    assert torch.equal(graphs.memory.written[:, :POSITIONS], expected)
    assert len(graphs.device.tapes) == len(PREFILL_BUCKETS), "nothing is recorded later"


def test_a_replay_is_as_short_as_its_tokens_allow() -> None:
    graphs, replayed = Graphs(), []
    for bucket, tape in zip(reversed(PREFILL_BUCKETS), graphs.device.tapes, strict=True):
        tape.replay = lambda bucket=bucket: replayed.append(bucket)
    for num_tokens in (10, 64, 65, 129, 257):
        graphs.prefill.read(chunks(TokenRange(0, 0, num_tokens)))
    assert replayed == [64, 64, 128, 256, 256, 64]


def test_prompts_with_an_adapter_are_read_without_graphs() -> None:
    graphs, asked = Graphs(), chunks(TokenRange(0, 0, 3), TokenRange(1, 0, 2), adapter=ADAPTER)
    graphs.prefill.read(asked)
    assert graphs.eager.was_given == [asked]
    assert (graphs.memory.written[:, :POSITIONS] == -9).all()
