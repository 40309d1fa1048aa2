"""A load test of any speech server, from outside: `python -m benchmarks.load --help`."""
