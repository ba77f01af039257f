"""How fast it is, always beside a floor and a peer that are measured in the same run: `python -m tests.benchmarks`."""
