"""What a Serve config's `user_config` changes, and what it may not."""

from typing import Any

import pytest

from serve_app.deployments.live_settings import LIVE_KEYS, LiveSettings, with_user_config
from serve_app.deployments.options import deployment_options
from serve_app.errors import StartupError
from serve_app.settings import Settings

SETTINGS = Settings.model_validate({"engine": {"max_waiting": 5, "max_step_ms": 40}, "sampling": {"top_k": 20}})


def test_what_is_given_changes_and_the_rest_is_as_it_was_started() -> None:
    live = with_user_config(SETTINGS, "TokenGenerator", {"engine": {"max_waiting": 64}})
    assert (live.engine.max_waiting, live.engine.max_step_ms) == (64, 40)
    assert live.engine.max_batch_size == SETTINGS.engine.max_batch_size
    assert SETTINGS.engine.max_waiting == 5


def test_what_is_left_out_later_goes_back() -> None:
    with_user_config(SETTINGS, "TokenGenerator", {"engine": {"max_waiting": 64}})
    assert with_user_config(SETTINGS, "TokenGenerator", {}) == SETTINGS
    assert with_user_config(SETTINGS, "TokenGenerator", None) == SETTINGS


@pytest.mark.parametrize(
    ("deployment", "user_config", "message"),
    [
        ("TokenGenerator", {"engine": {"max_batch_size": 9}}, "user_config of TokenGenerator, engine: max_batch_size"),
        ("TokenGenerator", {"sampling": {"top_k": 9}}, "sampling cannot change without a restart; these can: engine"),
        (
            "Ingress",
            {"sampling": {"topk": 9}},
            "sampling: topk cannot change .* these can: greedy, .* top_k, top_p",
        ),
        (
            "Ingress",
            {"sampling": {"top_k": 0}},
            "user_config of Ingress: sampling.top_k: .* greater than or equal to 1",
        ),
        ("Ingress", {"sampling": 9}, "user_config of Ingress, sampling: must be a mapping"),
        ("AudioDecoder", [9], "user_config of AudioDecoder: must be a mapping, with keys of these: codec"),
        ("ContextEncoder", {"codec": {}}, "none of its settings can change without a restart: leave user_config out"),
        ("JobRunner", {}, "none of its settings can change without a restart: leave user_config out"),
    ],
    ids=["key", "section", "typo", "value", "no section", "no mapping", "no deployment", "an empty one"],
)
def test_anything_else_is_refused_in_one_line(deployment: str, user_config: Any, message: str) -> None:
    with pytest.raises(StartupError, match=message) as caught:
        with_user_config(SETTINGS, deployment, user_config)
    assert "\n" not in str(caught.value)


def test_every_key_is_a_setting_and_every_deployment_is_there() -> None:
    assert LIVE_KEYS.keys() <= deployment_options(Settings()).keys()
    for sections in LIVE_KEYS.values():
        for name, keys in sections.items():
            assert keys <= getattr(Settings(), name).model_dump().keys()


def test_who_holds_live_settings_sees_them_change() -> None:
    live = LiveSettings.copy_of(SETTINGS)
    assert live.model_dump() == SETTINGS.model_dump()
    held: Settings = live
    live.sampling = with_user_config(SETTINGS, "Ingress", {"sampling": {"top_k": 7}}).sampling
    assert held.sampling.top_k == 7
    assert SETTINGS.sampling.top_k == 20


def test_a_fused_decoder_takes_the_live_settings_of_both() -> None:
    fused = SETTINGS.model_copy(update={"graph": "fused"})
    live = with_user_config(fused, "AudioDecoder", {"engine": {"max_waiting": 64}, "codec": {"max_wait_seconds": 7}})
    assert (live.engine.max_waiting, live.codec.max_wait_seconds) == (64, 7)
    with pytest.raises(StartupError, match="user_config of TokenGenerator"):
        with_user_config(fused, "TokenGenerator", {"engine": {"max_waiting": 64}})
