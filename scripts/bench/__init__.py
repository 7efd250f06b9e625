"""Benchmarks: each section of BENCHMARKS.md is a module here, measured by ``python -m scripts.bench <section>``."""
