"""vox-serve's command line: `python -m serve_app.launch --model sesame/csm-1b --port 8000`."""

import argparse
import logging
import sys
from typing import Any

from serve_app.cli.listening import bare, require_free_port
from serve_app.errors import StartupError
from serve_app.settings import KeySettings, Settings, load_settings

_LOOPBACK = "127.0.0.1"
_INTERRUPTED = 130
"""The exit status of a program that Ctrl-C has ended."""
_log = logging.getLogger(__name__)

_MEANINGLESS_HERE = (
    ("--scheduler-type", True),
    ("--max-num-pages", True),
    ("--page-size", True),
    ("--min-p", True),
    ("--repetition-window", True),
    ("--cfg-scale", True),
    ("--dp-size", True),
    ("--socket-suffix", True),
    ("--detokenize-interval", True),
    ("--async-scheduling", False),
    ("--enable-cuda-graph", False),
    ("--disable-cuda-graph", False),
    ("--enable-disaggregation", False),
    ("--enable-nvtx", False),
    ("--enable-torch-compile", False),
    ("--unroll-depth-cuda-graph", False),
)
"""vox-serve's flags without a counterpart. They are accepted, so that command lines go on working, and a warning names
them."""


def main(argv: list[str] | None = None) -> None:
    try:
        options = _parser().parse_args(argv)
        ignored = [flag for flag, _ in _MEANINGLESS_HERE if getattr(options, _name(flag)) not in (None, False)]
        settings = load_settings(_settings_args(options))
        if ignored:
            _log.warning("without effect here: %s", ", ".join(ignored))
        _serve(settings, options.host or _usual_host(settings.keys), options.port)
    except StartupError as error:
        sys.exit(f"serve_app.launch: {error}")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _serve(settings: Settings, host: str, port: int) -> None:
    host = bare(host)
    require_free_port(host, port)
    if host == _LOOPBACK and not (settings.keys.required or settings.keys.open):
        _log.warning(
            "listening on 127.0.0.1 only: for other machines require keys (CSM_KEYS__REQUIRED=true), or give --open"
        )
    # Ray takes seconds to import, which a wrong option and a taken port need not wait for.
    from serve_app.cli.serving import serve_until_stopped

    serve_until_stopped(settings, host, port)


def _usual_host(settings: KeySettings) -> str:
    """The default address. vox-serve listens on all addresses. Without keys that must be a decision, not a default."""
    return "0.0.0.0" if settings.required or settings.open else _LOOPBACK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve_app.launch", description=__doc__)

    def add(flag: str, **options: Any) -> None:
        """Both spellings: --top-p and --top_p."""
        spellings = dict.fromkeys((flag, "--" + flag[2:].replace("-", "_")))
        parser.add_argument(*spellings, dest=_name(flag), **options)

    add("--model", help="demo, a folder, or a Hub repository like sesame/csm-1b")
    add("--host", help="address to listen on; default 127.0.0.1, or 0.0.0.0 with required keys or --open")
    add("--port", type=int, default=8000)
    add("--max-batch-size", type=int, help="streams generated at once")
    add("--temperature", type=float)
    add("--top-k", type=int)
    add("--top-p", type=float)
    add("--repetition-penalty", type=float)
    add("--greedy", action="store_true")
    add("--max-tokens", type=int, help="longest answer in frames of 80 ms")
    add("--log-level", choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
    add("--open", action="store_true", help="without keys, also listen for other machines")
    for flag, takes_value in _MEANINGLESS_HERE:
        add(flag, help=argparse.SUPPRESS, **({} if takes_value else {"action": "store_true"}))
    return parser


def _settings_args(options: argparse.Namespace) -> dict[str, Any]:
    sampling = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "repetition_penalty")}
    if options.greedy:
        sampling["greedy"] = True
    args = {
        "model": "sesame/csm-1b" if options.model == "csm" else options.model,
        "log_level": options.log_level,
        "sampling": _given(sampling),
        "engine": _given({"max_batch_size": options.max_batch_size}),
        "codec": _given({"max_streams": options.max_batch_size}),
        "keys": {"open": True} if options.open else {},
        "limits": _given({"max_audio_seconds": options.max_tokens and options.max_tokens / 12.5}),
    }
    return {name: value for name, value in args.items() if value}


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _name(flag: str) -> str:
    return flag[2:].replace("-", "_")


if __name__ == "__main__":
    main()
