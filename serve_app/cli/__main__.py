"""`python -m serve_app.cli` is `csm-serve`."""

from serve_app.cli.main import main

# A process that this one starts imports it again.
if __name__ == "__main__":
    main()
