"""What is asked: the same again for the same seed, and context that grows by what was heard."""

import io
import wave
from itertools import islice

import pytest

from benchmarks.load.workloads import SCENARIOS, Clip, Workload


def test_a_seed_asks_the_same_in_every_phase() -> None:
    workload = Workload(scenarios=SCENARIOS, seed=4, context_seconds=0.5)
    first, second = (list(islice(workload.sessions(phase), 12)) for phase in (1, 2))
    assert first == second
    assert first != list(islice(Workload(scenarios=SCENARIOS, seed=5).sessions(1), 12))


def test_scenarios_take_turns() -> None:
    sessions = list(islice(Workload(scenarios=SCENARIOS).sessions(0), 6))
    assert [session.scenario for session in sessions] == [*SCENARIOS, *SCENARIOS]
    assert [len(session.requests) for session in sessions] == [1, 1, 4] * 2
    assert Workload(scenarios=SCENARIOS).requests_per_session == 2


def test_sentences_vary_in_length_and_scenes_in_turns() -> None:
    sentences = [session.requests[0][0].text for session in islice(Workload().sessions(0), 50)]
    assert max(map(len, sentences)) > 10 * min(map(len, sentences))
    scenes = [session.requests[0] for session in islice(Workload(scenarios=("scene",)).sessions(0), 50)]
    assert {len(scene) for scene in scenes} == {2, 3, 4}
    assert {turn.speaker for scene in scenes for turn in scene} == {0, 1}


def test_a_conversations_context_is_the_clip_and_what_was_heard() -> None:
    session = next(Workload(scenarios=("conversation",), conversation_turns=3, context_seconds=0.5).sessions(0))
    heard = [Clip("Heard.", 1, b"wav", 1.0)]
    assert session.item(0, []).context == session.context
    assert session.item(1, heard).context == (*session.context, *heard)
    assert [session.item(number, heard).turns[0].speaker for number in range(3)] == [0, 1, 0]
    assert len({session.item(number, heard).seed for number in range(3)}) == 3


@pytest.mark.parametrize("fresh", [True, False])
def test_fresh_clips_are_never_the_same_and_others_always(fresh: bool) -> None:
    workload = Workload(context_seconds=0.5, fresh_context=fresh)
    clips = [session.context[0].wav for phase in (1, 2) for session in islice(workload.sessions(phase), 3)]
    assert len(set(clips)) == (6 if fresh else 1)


def test_a_clip_is_sound_as_long_as_asked() -> None:
    [clip] = next(Workload(context_seconds=1.5).sessions(0)).context
    with wave.open(io.BytesIO(clip.wav)) as file:
        assert (file.getframerate(), file.getnframes()) == (24_000, 36_000)
        assert len(set(file.readframes(36_000))) > 100
