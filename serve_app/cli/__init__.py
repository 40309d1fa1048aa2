"""The command line: parse and delegate."""

from serve_app.cli.main import main

__all__ = ["main"]
