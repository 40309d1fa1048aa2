"""Scenes as rows of jobs, and their seeds."""

from hypothesis import given
from hypothesis import strategies as st

from serve_app.messages import SamplingParams
from serve_app.speech.request import Turn
from serve_app.speech.scene import ContextSource, FileAudio, SceneFile, SceneInput, UrlAudio

SPEAKERS = st.integers(0, 999)
TURNS = st.builds(Turn, st.text(min_size=1), SPEAKERS)
SOURCES = st.builds(
    ContextSource, st.text(), SPEAKERS, st.builds(UrlAudio, st.text()) | st.builds(FileAudio, st.text())
)
SCENES = st.builds(
    SceneInput,
    turns=st.lists(TURNS, min_size=1, max_size=3).map(tuple),
    context=st.lists(SOURCES, max_size=3).map(tuple),
    seed=st.none() | st.integers(0, 2**63 - 1),
    sampling=st.builds(SamplingParams, temperature=st.floats(0.1, 5), top_k=st.integers(1, 2048)),
    max_audio_seconds=st.floats(0.1, 90),
    file=st.builds(SceneFile, st.text(), st.just("wav"), st.none() | st.floats(1, 1e9)),
)


@given(SCENES)
def test_a_scene_is_the_same_after_its_row_was_read(scene: SceneInput) -> None:
    assert SceneInput.from_json(scene.to_json()) == scene


@given(SCENES, st.uuids().map(str))
def test_a_request_that_is_run_again_has_its_seed_again(scene: SceneInput, request_id: str) -> None:
    seed = scene.seed_for(request_id)
    assert seed == scene.seed_for(request_id)
    assert seed == scene.seed or (scene.seed is None and 0 <= seed < 2**53)


@given(SCENES)
def test_each_request_has_a_seed_of_its_own(scene: SceneInput) -> None:
    assert (scene.seed_for("a") == scene.seed_for("b")) is (scene.seed is not None)
