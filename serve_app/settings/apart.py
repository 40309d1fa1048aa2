"""Settings whose secrets stay out of what is sent to replicas.

Serve keeps the arguments of replicas with its own state, in Redis where the cluster has one. A secret that every node
has in its environment need not be there too.
"""

from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

from serve_app.errors import StartupError
from serve_app.settings.service import DatabaseSettings, FileSettings

_SECRETS = {"database": ("url", "CSM_DATABASE__URL"), "files": ("options", "CSM_FILES__OPTIONS")}
"""By section: the field, and its variable."""


class _Environment(BaseSettings):
    """The same sections, as the environment of this process has them."""

    model_config = SettingsConfigDict(env_prefix="CSM_", env_nested_delimiter="__", extra="ignore")

    database: DatabaseSettings = DatabaseSettings()
    files: FileSettings = FileSettings()

    def secret(self, section: str) -> Any:
        return getattr(getattr(self, section), _SECRETS[section][0])


class SecretsApart(BaseSettings):
    """Pickled without the secrets that come from the environment. Unpickling reads them there again."""

    def __getstate__(self) -> dict[Any, Any]:
        state, environment = super().__getstate__(), _Environment()
        values, apart = dict(state["__dict__"]), []
        for section, (field, _) in _SECRETS.items():
            secret = getattr(values[section], field)
            if secret and secret == environment.secret(section):
                empty = type(values[section]).model_fields[field].default
                values[section] = values[section].model_copy(update={field: empty})
                apart.append(section)
        return state | {"__dict__": values, "apart": apart}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Raises StartupError on a node whose environment lacks a secret that the sender's had."""
        environment, values = _Environment(), dict(state["__dict__"])
        for section in state["apart"]:
            field, variable = _SECRETS[section]
            if not (secret := environment.secret(section)):
                raise StartupError(
                    f"{variable} is set where the server was started and not on this node. Secrets do not travel: set "
                    "it in the environment of every Ray process, before Ray starts"
                )
            values[section] = values[section].model_copy(update={field: secret})
        super().__setstate__({name: each for name, each in state.items() if name != "apart"} | {"__dict__": values})
