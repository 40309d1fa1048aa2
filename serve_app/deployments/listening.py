"""Where Serve's HTTP port can be reached from."""

from ray.serve._private.constants import RAY_SERVE_ENABLE_HA_PROXY
from ray.serve.context import _get_global_client

ALL_ADDRESSES = "0.0.0.0"


def listens_on(host: str | None) -> str | None:
    """The address that Serve listens on where it is told `host`; None where it does not listen."""
    return ALL_ADDRESSES if RAY_SERVE_ENABLE_HA_PROXY else host


def serve_host() -> str | None:
    """The same for the Serve instance that this process belongs to; private, since nothing public tells it."""
    client = _get_global_client()
    assert client is not None, "asked where Serve runs"
    return listens_on(client.http_config.host)
