"""Backends of ours, by name."""
