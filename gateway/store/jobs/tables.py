"""The tables of jobs: jobs, their files, labelled sets."""

from __future__ import annotations
