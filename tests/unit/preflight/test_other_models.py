"""Applications that speak with one another's models stand in one file, and share what is stored."""

from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import StartupError
from serve_app.preflight.check import check_config


def config(folder: Path, **narrator: Any) -> dict[str, Any]:
    common = {"import_path": "serve_app.app:build"}
    own: dict[str, Any] = {"data_dir": str(folder), "other_models": ["narrator"]}
    return {
        "http_options": {"host": "127.0.0.1"},
        "applications": [
            common | {"name": "csm", "route_prefix": "/", "args": own},
            common | {"name": "narrator", "route_prefix": "/n", "args": {"data_dir": str(folder)} | narrator},
        ],
    }


def refused(config: dict[str, Any]) -> str:
    with pytest.raises(StartupError) as error:
        check_config(config, None, with_model=False)
    return str(error.value)


def test_two_that_share_what_is_stored_are_fine(tmp_path: Path) -> None:
    assert check_config(config(tmp_path), None, with_model=False) == "fine: 14 replicas at most"


def test_a_name_that_no_application_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    wrong = config(tmp_path)
    for name in ("narator", "csm"):
        wrong["applications"][0]["args"]["other_models"] = [name]
        assert refused(wrong) == (
            f"applications[0].args.other_models[0]: no other application of this file is called {name}: known are "
            "narrator"
        )


@pytest.mark.parametrize(
    "other",
    [{"data_dir": "/elsewhere"}, {"database": {"url": "sqlite:////other.db"}}, {"files": {"url": "s3://other"}}],
    ids=["folder", "database", "files"],
)
def test_an_application_that_would_not_see_the_jobs_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    assert refused(config(tmp_path, **other)).startswith(
        "applications[0].args.other_models[0]: narrator has another database or another place for files"
    )
