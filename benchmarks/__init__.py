"""How fast the pipeline is, against the usual way, on the machine at hand: ``python -m benchmarks --help``."""
