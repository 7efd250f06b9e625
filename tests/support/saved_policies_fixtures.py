"""A pytest plugin: the application with a classifier and a policy."""

from __future__ import annotations

import pytest

from tests.support.in_process_app import Web
from tests.support.saved_policies import ALWAYS, CLASSIFIER, put


@pytest.fixture
def made(web: Web) -> Web:
    """The application with a classifier and the policy ``strict``, which blocks everything."""
    assert put(web, "/v1/classifiers/scene", CLASSIFIER).status_code == 201
    assert put(web, "/v1/policies/strict", ALWAYS).status_code == 201
    return web
