"""The console's files: everybody may read them, they are small, never stale, and nothing else is among them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from gateway.api.console.static import console_files
from gateway.auth.api_keys import ApiKey, digest_of, entry_of, new_key
from tests.support.in_process_app import Web, is_problem

FOLDER = Path(__file__).parent.parent.parent / "gateway" / "console"
KEYS = {"gateway_api_keys": entry_of(ApiKey("k", digest_of(new_key()), frozenset({"read"})))}
FIRST_VIEW_BYTES = 150_000
AT_ONCE = re.compile(r"""(?:from|import)\s*["'](\.[^"']+)["']""")
LATER_TOO = re.compile(r"""(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""")


def loaded(web: Web, imports: re.Pattern[str]) -> set[str]:
    """Every file that the page names and that those import."""
    page = web.client.get("/console").text
    waiting = re.findall(r'(?:href|src)="(/console/[^"]+)"', page)
    found: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path.endswith(".js"):
            named = imports.findall(web.client.get(path).text)
            waiting += [str((Path(path).parent / name).resolve()) for name in named]
    return found


@pytest.mark.parametrize("web", [{}, KEYS], indirect=True, ids=["open", "keys"])
def test_the_page_and_all_that_it_names_is_there_for_everybody(web: Web) -> None:
    for path in ("/console", "/console/"):
        page = web.client.get(path, follow_redirects=False)
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
    kinds = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    found = loaded(web, LATER_TOO)
    assert "/console/app.js" in found
    for path in found:
        answer = web.client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == kinds[path.rpartition(".")[2]], path
    assert 'href="console"' in web.client.get("/").text


def test_text_is_sent_compressed_and_the_first_view_is_small(web: Web) -> None:
    total = 0
    for path in {"/console", *loaded(web, AT_ONCE)}:
        with web.client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
            sent = b"".join(answer.iter_raw())
            if answer.headers.get("content-encoding") == "gzip":
                plain = web.client.get(path, headers={"Accept-Encoding": "identity"})
                assert "content-encoding" not in plain.headers
                assert gzip.decompress(sent) == plain.content
            assert answer.headers["vary"] == "Accept-Encoding"
            total += len(sent) + sum(len(name) + len(value) + 4 for name, value in answer.headers.items())
    assert total < FIRST_VIEW_BYTES


def test_a_browser_asks_each_time_and_gets_what_has_changed(web: Web) -> None:
    first = web.client.get("/console/app.js")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    assert web.client.get("/console/style.css").headers["etag"] != tag
    again = web.client.get("/console/app.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert web.client.get("/console/app.js", headers={"If-None-Match": 'W/"older"'}).status_code == 200
    head = web.client.head("/console/app.js")
    assert (head.status_code, head.content) == (200, b"")
    assert web.client.post("/console").status_code == 405


@pytest.mark.parametrize(
    "path",
    ["nothing.js", "../app.py", "..%2fapp.py", "%2e%2e/app.py", "views", "views/", "vendor/preact.d.ts", "/etc/passwd"],
)
def test_nothing_else_is_served(web: Web, path: str) -> None:
    answer = web.client.get(f"/console/{path}")
    is_problem(answer, 404, "not_found")


def test_every_file_for_browsers_is_served() -> None:
    kept = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert {name for name in kept if not name.endswith(".d.ts")} == set(console_files())


@pytest.mark.parametrize("web", [{"console": False}], indirect=True, ids=[""])
def test_without_a_console_there_is_nothing(web: Web) -> None:
    for path in ("/console", "/console/", "/console/app.js"):
        is_problem(web.client.get(path), 404, "not_found")
    assert "onsole" not in web.client.get("/").text
