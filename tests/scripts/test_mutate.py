"""Which mutants may live, and what the report says of the others."""

from __future__ import annotations

import pytest

from scripts.mutate import ALLOWED, ROOT, allowed, change_of, report

DIFF = """--- gateway/a.py
+++ gateway/a.py
@@ -1,3 +1,3 @@
 def f(x):
-    return x < 1
+    return x <= 1
"""
CHANGE = ("gateway/a.py", "return x < 1", "return x <= 1")
LIST = "gateway/a.py:\n  - was: return x < 1\n    now: return x <= 1\n    why: x is never 1\n"


def test_only_mutants_that_are_neither_noticed_nor_listed_count() -> None:
    assert change_of("gateway/a.py", DIFF) == CHANGE
    other = ("gateway/a.py", "return x < 1", "return x > 1")
    found = {"gateway/a.py": [("killed", other), ("timeout", other), ("survived", CHANGE), ("no tests", other)]}
    text, living = report(found, allowed(LIST))
    assert living == 1
    assert text.splitlines()[1].split() == ["gateway/a.py", "4", "2", "1", "1"]
    assert "gateway/a.py (no tests)\n- return x < 1\n+ return x > 1" in text
    assert report(found, {})[1] == 2


def test_none_is_listed_without_a_reason() -> None:
    with pytest.raises(ValueError, match="why"):
        allowed(LIST.replace("x is never 1", "''"))


def test_what_is_listed_still_stands_in_the_code() -> None:
    listed = allowed(ALLOWED.read_text(encoding="utf-8"))
    assert listed
    for path, was, now in listed:
        lines = [line.strip() for line in (ROOT / path).read_text(encoding="utf-8").splitlines()]
        assert all(line in lines for line in was.splitlines()), was
        assert was != now
