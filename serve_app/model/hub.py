"""Downloads the needed files of a Hub repository, and no others: sesame/csm-1b holds its weights three times."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from serve_app.errors import CheckpointError, HubUnreachable
from serve_app.model.adapters.files import CONFIG_FILE, is_adapter
from serve_app.model.layout import ORIGINAL_FILES, is_configured, names_transformers_weights, read_config

_TEXT_FILES = ["*.json", "*.jinja", "prompts/*"]

# A broken connection raises the HTTP library's own errors, and that library depends on the Hub client's version.
_TRANSPORT_ERRORS = tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))


def download(repository: str, revision: str | None) -> Path:
    """The folder of the repository's snapshot. Files in the Hub's cache are not fetched again.

    The small files come first, because they tell which weight files are needed.
    """
    folder = _fetch(repository, revision, _TEXT_FILES)
    return _fetch(repository, revision, [*_TEXT_FILES, *_weight_files(folder, repository)])


def reach(repository: str, revision: str | None) -> None:
    """Raises CheckpointError where the repository is missing or not accessible. Fetches only small files."""
    _fetch(repository, revision, ["config.json", CONFIG_FILE])


def find_adapter(source: str, revision: str | None) -> Path:
    """The folder of an adapter, downloaded if `source` is a repository. Raises CheckpointError."""
    folder = Path(source).expanduser()
    found = folder if folder.is_dir() else download(source, revision)
    if not is_adapter(found):
        raise CheckpointError(f"{source}: {CONFIG_FILE} is missing: it is no adapter that PEFT wrote")
    return found


def _weight_files(folder: Path, repository: str) -> list[str]:
    if is_adapter(folder):
        return ["adapter_model.*"]
    if not is_configured(folder):
        return list(ORIGINAL_FILES)
    ours = names_transformers_weights(folder, read_config(folder, repository))
    return ["transformers*.safetensors"] if ours else ["model*.safetensors", "pytorch_model*.bin"]


def _fetch(repository: str, revision: str | None, patterns: list[str]) -> Path:
    try:
        return Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repository} is gated: accept its licence at https://huggingface.co/{repository}, "
            "then set HF_TOKEN to a token of that account"
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repository} has no revision {revision}: choose another or leave it out") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"{repository} is neither a folder here nor a repository that the Hub shows you: "
            "check the name, set HF_TOKEN if it is private, or give a folder"
        ) from error
    except (OSError, *_TRANSPORT_ERRORS) as error:
        raise HubUnreachable(
            f"{repository} could not be fetched ({type(error).__name__}): "
            "check the network and the disk, or give a folder that holds the checkpoint"
        ) from error
