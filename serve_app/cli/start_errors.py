"""What keeps a server on this machine from starting, each in one line with its remedy."""

import os
import socket
import tempfile
from pathlib import Path

from serve_app.errors import StartupError

_CONNECT_SECONDS = 5.0


def ray_failure(error: Exception) -> StartupError:
    """The error of a Ray that does not start."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if "AF_UNIX" in reason:
        folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        return StartupError(
            f"Ray cannot start: its sockets under {folder} would have paths longer than the system allows: set "
            "RAY_TMPDIR to a short folder, such as RAY_TMPDIR=/tmp"
        )
    if (address := os.environ.get("RAY_ADDRESS", "local")) != "local":
        return _no_ray(address, reason)
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.filename is not None):
        return StartupError(
            f"Ray cannot start: it may not write {error.filename} ({error.strerror}), perhaps another user's: set "
            "RAY_TMPDIR to a folder of your own"
        )
    return StartupError(f"Ray cannot start: {reason}")


def require_ray(address: str) -> None:
    """Raises StartupError where nothing listens at `address`. Ray itself goes on trying for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdecimal():
        return  # Ray's own names, such as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_ray(address, getattr(error, "strerror", None) or str(error)) from None


def _no_ray(address: str, reason: str) -> StartupError:
    return StartupError(
        f"no Ray answers at RAY_ADDRESS={address} ({reason}): unset RAY_ADDRESS to start one here, or correct it"
    )


def require_data_folder(folder: Path) -> None:
    """Raises StartupError where nothing can be kept in `folder`. It is made here, for replicas to find."""
    if str(folder).startswith("~"):
        raise StartupError("HOME is not set, so there is no place for data: set CSM_DATA_DIR to a folder, or set HOME")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StartupError(
            f"data_dir: cannot write to {folder} ({error.strerror}): set CSM_DATA_DIR to a folder that can be written"
        ) from None
