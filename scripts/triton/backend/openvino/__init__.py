"""A Python-based stand-in for Triton's OpenVINO backend."""
