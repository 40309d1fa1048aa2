"""Tables, plots and a page from the files of load tests: `python -m benchmarks.report --help`."""
