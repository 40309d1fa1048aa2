"""`python -m serve_app.cli` is `csm-serve`."""

from serve_app.cli.main import main

main()
