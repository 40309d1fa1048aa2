"""Settings that change without a restart: a deployment's `user_config` in the Serve config, which cuts no stream.

    - name: TokenGenerator
      user_config: {engine: {max_waiting: 64}}
    - name: Ingress
      user_config: {sampling: {temperature: 0.8}}

Sections and keys are those of the settings. Keys that are left out keep the value of the application's `args`.

A deployment's `reconfigure` takes its replica's rank and does not use it. Serve calls `reconfigure` for a removed
`user_config`, which restores the `args`, only if it takes the rank.
"""

from typing import Any

from pydantic import ValidationError

from serve_app.errors import StartupError
from serve_app.settings import SamplingSettings, Settings

LIVE_KEYS: dict[str, dict[str, frozenset[str]]] = {
    "Ingress": {"sampling": frozenset(SamplingSettings.model_fields)},
    "TokenGenerator": {
        "engine": frozenset(
            {"max_waiting", "max_wait_seconds", "max_step_ms", "max_lead_seconds", "chunk_frames"}
            | {"chunk_reserve_ms", "prefill_chunk_tokens", "repeated_frames_limit"}
        )
    },
    "AudioDecoder": {"codec": frozenset({"max_wait_seconds", "silent_tail_seconds"})},
}
"""By deployment and section. All other settings concern memory or models, and need a restart."""


def live_keys(settings: Settings) -> dict[str, dict[str, frozenset[str]]]:
    """Those of the graph that the settings ask for."""
    if settings.graph == "separate":
        return LIVE_KEYS
    others = {name: sections for name, sections in LIVE_KEYS.items() if name != "TokenGenerator"}
    return others | {"AudioDecoder": LIVE_KEYS["AudioDecoder"] | LIVE_KEYS["TokenGenerator"]}


class LiveSettings(Settings, frozen=False):
    """Settings whose sections may be replaced while others hold the object."""

    @classmethod
    def copy_of(cls, settings: Settings) -> "LiveSettings":
        return cls.model_construct(**vars(settings))


def with_user_config(settings: Settings, deployment: str, user_config: Any) -> Settings:
    """The settings of that deployment with its `user_config`, which may be None.

    Raises StartupError naming the first wrong key.
    """
    where = f"user_config of {deployment}"
    known = live_keys(settings)
    if deployment not in known:
        raise StartupError(f"{where}: none of its settings can change without a restart: leave user_config out")
    if user_config is None:
        return settings
    sections = known[deployment]
    _check_keys(where, user_config, sections)
    changed = {}
    for name, values in user_config.items():
        _check_keys(f"{where}, {name}", values, sections[name])
        section = getattr(settings, name)
        try:
            changed[name] = type(section).model_validate(section.model_dump() | values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (name, *first["loc"])))
            raise StartupError(f"{where}: {key}: {first['msg']}") from None
    return settings.model_copy(update=changed)


def _check_keys(where: str, values: Any, known: Any) -> None:
    choice = ", ".join(sorted(known))
    if not isinstance(values, dict):
        raise StartupError(f"{where}: must be a mapping, with keys of these: {choice}")
    if unknown := sorted(str(key) for key in values if key not in known):
        raise StartupError(f"{where}: {unknown[0]} cannot change without a restart; these can: {choice}")
