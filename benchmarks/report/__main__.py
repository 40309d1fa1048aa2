"""`python -m benchmarks.report`."""

from benchmarks.report.command import main

main()
