"""Staging a change of the model under load."""
