"""Each section of docs/benchmarks.md is a module here, measured by ``python -m scripts.bench <section>``."""
