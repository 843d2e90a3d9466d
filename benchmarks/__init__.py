"""Benchmarks of the pipeline against a conventional implementation: ``python -m benchmarks --help``."""
