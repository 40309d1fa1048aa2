"""Checks that applications which speak with one another's models fit together."""

from collections.abc import Sequence

from serve_app.errors import StartupError
from serve_app.preflight.serve_config import OurApplication
from serve_app.settings import Settings


def check_other_models(applications: Sequence[tuple[OurApplication, Settings]]) -> None:
    """Raises StartupError for a name that no application has, and where two would not find each other's jobs."""
    by_name = {application.name: settings for application, settings in applications}
    for application, settings in applications:
        for index, name in enumerate(settings.other_models):
            where = f"{application.key}.args.other_models[{index}]"
            if name not in by_name or name == application.name:
                known = ", ".join(other for other in by_name if other != application.name) or "none"
                raise StartupError(f"{where}: no other application of this file is called {name}: known are {known}")
            if _stores(by_name[name]) != _stores(settings):
                raise StartupError(
                    f"{where}: {name} has another database or another place for files, so its runners would not find "
                    "the jobs that are queued here: give both the same `database`, `files` and `data_dir`"
                )


def _stores(settings: Settings) -> tuple[object, ...]:
    """Where jobs and files are."""
    return settings.database_url, settings.files.url or settings.data_dir.resolve(), settings.files.options
