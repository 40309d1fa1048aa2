"""What memory bandwidth makes of CSM-1B, and the advice that follows from it."""

import pytest
from typer.testing import CliRunner

from serve_app.cli.main import app
from serve_app.messages import FRAME_RATE_HZ
from serve_app.model.presets import preset_config
from serve_app.model.shape import CsmShape
from serve_app.verify.cpu_speed import CpuSpeed, Expectation, expectations, verdict

ALL = tuple(expectations(CsmShape.from_config(preset_config("csm-1b"))))
GIGA = 1e9


def speed(half: float, whole: float) -> CpuSpeed:
    return CpuSpeed("AVX2", 4, half * GIGA, 8, whole * GIGA, ALL)


def test_a_frame_reads_what_is_published() -> None:
    gigabytes = {one.quantization: one.num_bytes / GIGA for one in ALL}
    assert gigabytes == {
        "none": pytest.approx(9.0, abs=0.1),
        "int8": pytest.approx(4.6, abs=0.1),
        "int4": pytest.approx(2.6, abs=0.1),
    }


@pytest.mark.parametrize(
    ("half", "whole", "advice"),
    [
        (200, 200, "real time here, with --dtype bfloat16."),
        (90, 90, "real time here, with --dtype bfloat16 --quantization int8."),
        (76, 76, "real time here, with --dtype bfloat16 --quantization int4."),
        (40, 90, "with --dtype bfloat16 --quantization int8 and engine.threads: 8 (CSM_ENGINE__THREADS=8)."),
        (20, 21, "cannot be spoken in real time here: with --dtype bfloat16 --quantization int4"),
    ],
)
def test_the_most_exact_settings_that_keep_up_are_named(half: float, whole: float, advice: str) -> None:
    assert advice in verdict(speed(half, whole))


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.quantization)
def test_the_bandwidth_that_it_names_is_just_enough(one: Expectation) -> None:
    assert one.frame_ms(one.real_time_bytes_per_second) == pytest.approx(1000 / FRAME_RATE_HZ)


def test_the_command_answers_for_this_machine() -> None:
    done = CliRunner().invoke(app, ["verify", "--speed"])
    assert done.exit_code == 0, done.output
    assert "memory is read at" in done.output and "CSM-1B can" in done.output
