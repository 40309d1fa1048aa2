"""The models that requests may name: this application's own, and those of other applications of the cluster."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from serve_app.errors import InvalidRequest
from serve_app.speech.service import SpeechService


@dataclass(frozen=True, slots=True)
class Model:
    """`application` has the replicas that speak, and the runners of its jobs. Empty where there is only one."""

    application: str
    speech: SpeechService


@dataclass(frozen=True, slots=True)
class Models:
    own: Model
    others: Mapping[str, Model] = field(default_factory=dict[str, Model])
    """By the name of their application."""

    @classmethod
    def only(cls, speech: SpeechService) -> "Models":
        return cls(Model("", speech))

    def find(self, name: str | None, own_names: Collection[str]) -> Model:
        """The model that a request names. A server of one model answers to any name.

        own_names: what the dialect calls the own model. Raises InvalidRequest at `model`.
        """
        if name is None or not self.others:
            return self.own
        if name in self.others:
            return self.others[name]
        if name in own_names or name == self.own.application:
            return self.own
        known = ", ".join([*own_names, *self.others])
        raise InvalidRequest("model", f"is none of this server's: send one of {known}, or leave it out")
