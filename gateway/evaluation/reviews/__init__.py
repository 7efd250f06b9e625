"""Reviewers' verdicts as labelled images, and what a report says of them."""
