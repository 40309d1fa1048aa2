"""`csm-serve plan`: from a wish to a Serve config."""

import re
import sys
from dataclasses import replace

import pytest
import yaml

from serve_app.capacity import report
from serve_app.capacity.costs import CARDS, PATHS, PREDICTED, at, with_steps
from serve_app.capacity.plan import Wish, most_streams, plan_of
from serve_app.cli import main
from serve_app.errors import StartupError
from serve_app.settings import Settings

CARD = with_steps(CARDS["h200"], {1: 10.0, 8: 20.0})
WISH = Wish(100, 0.5, CARD, PATHS["default"], start_seconds=20.0)


def test_a_plan_keeps_first_audio_in_time_and_nothing_is_too_busy() -> None:
    plan = plan_of(WISH)
    assert plan.usual.p99 <= 0.5 and plan.usual.refused == 0
    assert plan.load * (plan.cards - 1) == pytest.approx(100)
    assert plan.load <= plan.most_streams <= most_streams(WISH, 8)
    assert max(plan.card_busy, plan.slots_busy) <= 0.81
    assert plan_of(replace(WISH, streams=300)).cards > plan.cards


def test_slots_are_no_more_than_the_load_needs() -> None:
    assert plan_of(replace(WISH, streams=2, card=CARDS["h200"])).slots == 8


def test_a_time_that_cannot_be_kept_is_one_line() -> None:
    with pytest.raises(StartupError, match=r"^--ttfa-p99: 20 ms cannot be kept on h200 .* \d+ ms is the least$"):
        plan_of(replace(WISH, first_audio_p99_seconds=0.02))


def test_the_config_is_yaml_that_the_settings_take() -> None:
    plan = plan_of(WISH)
    values = yaml.safe_load(report.config(plan))
    settings = Settings(**values["args"])
    assert settings.engine.max_batch_size == settings.codec.max_streams == plan.slots
    scaling = {entry["name"]: entry["autoscaling_config"] for entry in values["deployments"]}
    assert scaling["TokenGenerator"] == {"min_replicas": plan.cards, "max_replicas": plan.most_cards}


def test_what_is_predicted_is_called_so() -> None:
    assert any(PREDICTED in line for line in report.assumptions(plan_of(WISH))), "the codec's"
    first = next(report.assumptions(plan_of(replace(WISH, card=CARDS["h100"]))))
    assert first.startswith("the step times of h100 are predicted")


def test_many_listeners_take_several_clusters() -> None:
    plan = plan_of(replace(WISH, streams=12_000, card=CARDS["h200"]))
    assert plan.cells == 3
    values = yaml.safe_load(report.config(plan))
    most_of_one = values["deployments"][0]["autoscaling_config"]["min_replicas"]
    assert most_of_one == -(-plan.cards // 3)


def test_a_slower_memory_makes_slower_steps() -> None:
    times = [at(CARDS[name].step_ms, 64) for name in ("h200", "h100", "a100")]
    assert times == sorted(times) and times[0] < times[2]
    assert at({2: 10.0, 4: 20.0}, 3) == 15.0
    assert (at({2: 10.0, 4: 20.0}, 1), at({2: 10.0, 4: 20.0}, 9)) == (10.0, 20.0)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--streams", "0"], "--streams: must be from 1 to 1000000"),
        (["--streams", "9", "--ttfa-p99", "soon"], "--ttfa-p99: 'soon' is no time: write 300ms or 0.3s"),
        (["--streams", "9", "--gpu", "rtx"], "--gpu: rtx is none of h200, h100, a100: "),
        (["--streams", "9", "--step-ms", "1:2"], "--step-ms: '1:2' is no table: "),
        (["--streams", "9", "--profile", "nginx"], "--profile: nginx is none of default, haproxy"),
        (["--streams", "9", "--burst", "0.5"], "--burst: must be from 1 to 20"),
    ],
)
def test_a_bad_option_is_one_line(monkeypatch: pytest.MonkeyPatch, argv: list[str], line: str) -> None:
    monkeypatch.setattr(sys, "argv", ["csm-serve", "plan", *argv])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert re.match(re.escape(f"csm-serve: {line}"), str(stopped.value.code)) and "\n" not in str(stopped.value.code)
