"""When a sequence ends, and how its frames are grouped into messages."""

import numpy as np

from serve_app.engine.prompt import Prompt
from serve_app.engine.sequence import Sequence
from serve_app.messages import Accepted, Codes, FinishReason, GenerationRequest, TokenFrames


class Collected(list[TokenFrames]):
    def __call__(self, message: Accepted | TokenFrames | Exception) -> None:
        assert isinstance(message, TokenFrames)
        self.append(message)


def sequence(max_frames: int = 100, num_resumed: int = 0) -> tuple[Sequence, Collected]:
    size = 4 + num_resumed
    prompt = Prompt(np.zeros(size, np.int64), np.zeros((size, 3), np.int64), num_resumed, max_frames, 0)
    sent = Collected()
    return Sequence(GenerationRequest("r", "text", 0), prompt, sent, 0.0), sent


def frame(number: int) -> np.ndarray:
    return np.array([number + 1, number % 7, 2])


def test_messages_grow_up_to_the_largest_group_and_the_last_brings_the_rest() -> None:
    seq, sent = sequence()
    for number in range(16):
        assert seq.append(frame(number), 25, 0.0) is None
        if seq.num_unsent >= seq.size_of_next_message(0, 4):
            seq.send()
    seq.send_last(FinishReason.EOS)
    assert [m.codes.num_frames for m in sent] == [1, 1, 2, 2, 4, 4, 2]
    assert [m.first_frame for m in sent] == [0, 1, 2, 4, 6, 10, 14]
    assert [m.finish for m in sent] == [None] * 6 + [FinishReason.EOS]
    together = b"".join(m.codes.data for m in sent)
    assert together == Codes.from_array(np.stack([frame(n) for n in range(16)])).data


def test_who_has_much_in_hand_gets_a_quarter_of_it_at_once() -> None:
    seq, _ = sequence()
    assert [seq.size_of_next_message(in_hand, 12) for in_hand in (0, 7, 8, 40, 100)] == [1, 1, 2, 10, 12]


def test_a_frame_of_zeros_but_for_the_last_codebook_ends_speech_and_is_not_kept() -> None:
    seq, _ = sequence()
    assert seq.append(np.array([0, 0, 5]), 25, 0.0) is FinishReason.EOS
    assert seq.num_frames == 0


def test_a_first_code_of_zero_alone_does_not_end_speech() -> None:
    seq, _ = sequence()
    assert seq.append(np.array([0, 1, 0]), 25, 0.0) is None


def test_the_frame_cap_counts_resumed_frames() -> None:
    seq, sent = sequence(max_frames=5, num_resumed=3)
    assert seq.append(frame(0), 25, 0.0) is None
    assert seq.append(frame(1), 25, 0.0) is FinishReason.LENGTH
    seq.send_last(FinishReason.LENGTH)
    assert [m.first_frame for m in sent] == [3]


def test_equal_frames_in_a_row_are_a_runaway() -> None:
    seq, _ = sequence()
    reasons = [seq.append(frame(1), 3, 0.0) for _ in range(2)] + [seq.append(frame(2), 3, 0.0)]
    assert reasons == [None, None, None]
    assert [seq.append(frame(1), 3, 0.0) for _ in range(3)] == [None, None, FinishReason.RUNAWAY]
