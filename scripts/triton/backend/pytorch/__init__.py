"""A Python-based stand-in for NVIDIA's libtorch backend."""
