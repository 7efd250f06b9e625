"""What a head may be asked to tell apart: limits that hold for a saved classifier's labels too."""

from __future__ import annotations

from tests.support.in_process_app import Web, is_problem
from tests.support.saved_policies import put


def test_a_saved_classifier_with_more_labels_than_a_training_takes_is_refused(web: Web) -> None:
    put(web, "/v1/classifiers/many", {"labels": [f"shape {number}" for number in range(51)]})
    body = {"from_classifier": "many", "examples": [{"labels": ["shape 1"], "decision_id": "one"}]}
    answer = web.client.post("/v1/classifiers/many/train", json=body)
    is_problem(answer, 422, "invalid_request")
    assert "50 labels" in answer.json()["detail"]
