"""Runs NVIDIA's Triton server on this machine, without a container."""
