"""Scenes as rows of jobs."""

from hypothesis import given
from hypothesis import strategies as st

from serve_app.messages import SamplingParams
from serve_app.speech.scene import AnswerFile, ContextSource, FileAudio, Scene, Turn, UrlAudio

SPEAKERS = st.integers(0, 999)
TURNS = st.builds(Turn, st.text(min_size=1), SPEAKERS)
SOURCES = st.builds(
    ContextSource, st.text(), SPEAKERS, st.builds(UrlAudio, st.text()) | st.builds(FileAudio, st.text())
)
SCENES = st.builds(
    Scene,
    turns=st.lists(TURNS, min_size=1, max_size=3).map(tuple),
    context=st.lists(SOURCES, max_size=3).map(tuple),
    seed=st.none() | st.integers(0, 2**63 - 1),
    sampling=st.builds(SamplingParams, temperature=st.floats(0.1, 5), top_k=st.integers(1, 2048)),
    max_audio_seconds=st.floats(0.1, 90),
    file=st.none() | st.builds(AnswerFile, st.text(), st.just("wav"), st.none() | st.floats(1, 1e9)),
)


@given(SCENES)
def test_a_scene_is_the_same_after_its_row_was_read(scene: Scene) -> None:
    assert Scene.from_json(scene.to_json()) == scene
