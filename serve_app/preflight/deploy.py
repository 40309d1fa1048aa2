"""Hands a checked Serve config to a running cluster."""

from typing import Any

import requests
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.exceptions import AuthenticationError
from ray.serve.schema import ServeDeploySchema

from serve_app.errors import StartupError


def deploy_config(config: dict[str, Any], address: str) -> None:
    """Make the cluster serve `config`. Raises StartupError if its dashboard at `address` does not take it."""
    try:
        values = ServeDeploySchema.model_validate(config).model_dump(exclude_unset=True)
        ServeSubmissionClient(address).deploy_applications(values)
    except (ConnectionError, requests.RequestException):
        raise StartupError(
            f"--address {address}: no Ray dashboard answers there; `ray dashboard cluster.yaml` brings a cluster's to "
            "http://127.0.0.1:8265"
        ) from None
    except AuthenticationError:
        raise StartupError(
            f"--address {address}: the cluster refuses the token: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH to the file with the cluster's"
        ) from None
    except (RuntimeError, ValueError) as error:
        raise StartupError(f"--address {address}: {' '.join(str(error).split())}") from None
