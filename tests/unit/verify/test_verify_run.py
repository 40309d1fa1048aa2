"""All checks on a tiny checkpoint; and mistakes put into our side, which each must find."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from serve_app.audio.wav import wav_file
from serve_app.engine import loading, reference
from serve_app.errors import GenerationFailed, StartupError
from serve_app.model import rope
from serve_app.model.checkpoint import load_model
from serve_app.model.csm import Csm
from serve_app.settings import Settings
from serve_app.verify import run
from serve_app.verify import served as served_module
from serve_app.verify.check import SKIPPABLE, Check, Report, Status
from serve_app.verify.run import Plan, verify
from serve_app.verify.served import ServedModel


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more here than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "use_threads", lambda num_threads: None)
        patch.setattr(served_module, "_MEASURED_MS", 0)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def with_voice(tiny_checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that brings a voice, its clip not of whole frames."""
    folder = shutil.copytree(tiny_checkpoint_folder, tmp_path_factory.mktemp("verify") / "tiny")
    (folder / "prompts").mkdir()
    noise = np.random.default_rng(0).normal(0, 3000, 24_000).astype("<i2")
    (folder / "prompts" / "conversational_a.wav").write_bytes(wav_file(noise.tobytes()))
    (folder / "prompts" / "conversational_a.txt").write_text("said before")
    return folder


def planned(folder: Path, sample: Path, only: set[str] | None = None, **settings: Any) -> Plan:
    skip = frozenset(SKIPPABLE) - (only if only is not None else set(SKIPPABLE))
    one = {"threads": 1}
    # The native step has tests of its own, and would be compiled here.
    served = Settings(
        model=str(folder), data_dir=folder, device="cpu", engine={"step": "plain", **one}, codec=one, **settings
    )  # pyright: ignore[reportArgumentType]
    return Plan(served, num_frames=3, text="Hi.", sample=sample, skip=skip)


def run_checks(plan: Plan) -> Report:
    return verify(plan, lambda doing: nullcontext())


def named(report: Report) -> dict[str, Check]:
    return {check.name: check for check in report.checks}


@pytest.fixture(scope="module")
def everything(with_voice: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    steps: list[str] = []

    def progress(doing: str) -> AbstractContextManager[None]:
        steps.append(doing)
        return nullcontext()

    plan = planned(with_voice, tmp_path_factory.mktemp("sample") / "s.wav", dtype="bfloat16")
    report = verify(plan, progress)
    assert len(steps) == len(set(steps)) > 5
    return report


def test_a_good_checkpoint_passes(everything: Report) -> None:
    assert everything.failure is None
    assert {check.name: check.status for check in everything.checks} == {
        "files": Status.PASSED,
        "parity": Status.PASSED,
        "served": Status.PASSED,
        "sample": Status.PASSED,
        "speed": Status.MEASURED,
        "words": Status.NOT_RUN,
        "ends": Status.NOT_RUN,
    }
    assert everything.as_json()["weights"] == "random"


def test_parity_is_with_and_without_a_clip(everything: Report) -> None:
    alone, after = named(everything)["parity"].values["utterances"]
    assert (alone["label"], alone["shape"], alone["codec_agreement"]) == ("a text alone", (3, 32), None)
    assert (after["label"], after["shape"]) == ("after a clip", (2, 32))
    assert after["codec_agreement"] > 0.99
    for one in (alone, after):
        assert one["same_prompt"] and one["difference"] is None
        assert one["logit_spreads"] < 1e-4


def test_the_served_configuration_is_the_one_asked_for(everything: Report) -> None:
    served = named(everything)["served"].values
    assert served["arithmetic"] == "bfloat16"
    assert served["codes"] == 4 * 3 * 32
    assert 0 <= served["mean_regret"] < 0.02
    assert served["agreeing"] > 0.8


def test_the_sample_is_a_file_of_noise(everything: Report) -> None:
    sample = named(everything)["sample"].values
    assert sample["noise"] and sample["finish"] == "length"
    assert Path(sample["file"]).stat().st_size == 44 + 2 * 24_000 * sample["seconds"]
    assert sample["rms_dbfs"] > -60


def test_speed_is_of_every_batch_size_that_fits(everything: Report) -> None:
    speed = named(everything)["speed"].values
    assert list(speed["step_ms_by_batch"]) == ["1", "4", "8"]
    assert min(speed["first_audio_ms"], speed["codec_ms"], *speed["step_ms_by_batch"].values()) > 0


def test_a_wrong_rotation_of_ours_fails_parity_alone(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_folder: Path, tmp_path: Path
) -> None:
    true = rope.inverse_frequencies
    monkeypatch.setattr(rope, "inverse_frequencies", lambda *args: true(*args) * 1.5)
    report = run_checks(planned(tiny_checkpoint_folder, tmp_path / "s.wav", {"parity", "served"}))
    assert report.failure is not None
    assert report.failure.startswith("parity: a text alone: codes differ first at frame 0, codebook ")
    assert named(report)["served"].status is Status.PASSED, "which is compared with ours"


def swapped(load: Callable[..., Csm]) -> Callable[..., Csm]:
    """Loads with one layer's queries as the original checkpoint stores them: pairs of a rotation side by side."""

    def interleaved(rows: Tensor, num_heads: int) -> Tensor:
        return rows.reshape(num_heads, 2, -1, rows.shape[1]).transpose(1, 2).reshape(rows.shape)

    def load_swapped(*args: Any) -> Csm:
        model = load(*args)
        shape = model.shape.backbone
        rows = model.backbone.blocks[0].qkv[: shape.num_heads * shape.head_dim]
        rows.copy_(interleaved(rows.clone(), shape.num_heads))
        return model

    return load_swapped


def test_rows_in_the_originals_order_fail_parity_with_the_place(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(reference, "load_model", swapped(load_model))
    report = run_checks(planned(tiny_checkpoint_folder, tmp_path / "s.wav", {"parity"}))
    assert report.failure is not None
    assert report.failure.startswith("parity: a text alone: codes differ first at frame ")
    [utterance] = named(report)["parity"].values["utterances"]
    assert utterance["logit_spreads"] > 0.1


def test_a_served_model_that_computes_something_else_fails(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(loading, "load_model", swapped(load_model))
    report = run_checks(planned(tiny_checkpoint_folder, tmp_path / "s.wav", {"parity", "served"}))
    assert named(report)["parity"].status is Status.PASSED
    assert report.failure is not None
    assert report.failure.startswith("served: codes are ")


def test_quantized_weights_pass_as_what_they_are(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    report = run_checks(planned(tiny_checkpoint_folder, tmp_path / "s.wav", {"served"}, quantization="int8"))
    assert report.failure is None
    assert named(report)["served"].values["arithmetic"] == "int8"


def test_files_that_cannot_be_loaded_end_it_there(tiny_checkpoint_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint_folder, tmp_path / "tiny")
    path = next(iter(sorted(folder.glob("transformers-*.safetensors"))))
    tensors = load_file(path)
    removed = next(iter(tensors))
    path.unlink()
    save_file({name: tensor for name, tensor in tensors.items() if name != removed}, path)
    report = run_checks(planned(folder, tmp_path / "s.wav"))
    assert report.failure == f"files: {removed} is missing"
    assert {check.status for check in report.checks[1:]} == {Status.NOT_RUN}


def test_too_little_memory_is_said_with_the_remedy_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "free_host_bytes", lambda: 200_000_000)
    report = run_checks(planned(tiny_checkpoint_folder, tmp_path / "s.wav", {"parity", "sample"}))
    assert report.failure is not None
    assert report.failure.endswith(" of memory, 0.20 GB are free: free some, or --skip parity")
    assert named(report)["sample"].status is Status.PASSED


def test_a_model_that_breaks_while_speaking_is_a_failed_check(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint_folder: Path, tmp_path: Path
) -> None:
    async def speak(self: ServedModel, text: str) -> None:
        raise GenerationFailed("the model failed while speaking; try again")

    monkeypatch.setattr(ServedModel, "speak", speak)
    report = run_checks(planned(tiny_checkpoint_folder, tmp_path / "s.wav", {"sample", "words"}))
    assert report.failure == "sample: the model failed while speaking; try again"
    assert named(report)["words"].status is Status.NOT_RUN


def test_a_stand_in_is_nothing_to_check(tmp_path: Path) -> None:
    plan = planned(tmp_path, tmp_path / "s.wav")
    settings = Settings(model="stand-in", stand_in={})  # pyright: ignore[reportArgumentType]
    with pytest.raises(StartupError, match="there is no model to check"):
        run_checks(Plan(settings, plan.num_frames, plan.text, plan.sample, plan.skip))


def test_an_empty_text_is_refused(tmp_path: Path) -> None:
    plan = planned(tmp_path, tmp_path / "s.wav")
    with pytest.raises(StartupError, match="--text: is empty"):
        run_checks(Plan(plan.settings, plan.num_frames, " ", plan.sample, plan.skip))
