"""Reviewers at the console: a gateway with their keys, a queue of drawings, and a real browser for each of them."""

from __future__ import annotations

import base64
import io
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import BrowserContext, Page, expect

from gateway.auth.api_keys import ApiKey, Role, digest_of, entry_of, new_key
from tests.conftest import Stack
from tests.support.drawings import LABELS, encoded, shape
from tests.support.gateway_processes import more_gateways

PATIENCE_MS = 30_000  # of a page on a busy machine
EVERYTHING: frozenset[Role] = frozenset({"infer", "read", "manage", "review"})
CLASSIFIER = {"mode": "independent", "labels": [{"label": label} for label in LABELS[:4]]}
POLICY = {
    "rules": [
        {"category": name, "classifier": "shapes", "labels": [label], "review_at": 0.0}
        for name, label in zip(("circles", "squares", "triangles", "stars"), LABELS[:4], strict=True)
    ],
    "views": "full",
}
BAR = 'section[aria-label="Your verdict"]'


@dataclass(frozen=True)
class Desk:
    """A gateway that keeps stills, and the keys of who reviews there."""

    url: str
    keys: dict[str, str]
    folder: Path

    def ask(self, method: str, path: str, body: Any = None, *, who: str = "chief") -> Any:
        """Return the JSON of a good answer."""
        header = {"Authorization": f"Bearer {self.keys[who]}"}
        answer = httpx2.request(method, self.url + path, json=body, headers=header, timeout=60)
        assert answer.status_code < 300, (path, answer.text)
        return answer.json() if answer.content else None

    def fill(
        self, names: Sequence[str], picture: bytes | None = None, policy: str = "shapes", who: str = "chief"
    ) -> list[str]:
        """Have drawings of these external ids wait for review; returns the cases' ids."""
        made = []
        for number, name in enumerate(names):  # one a request: they wait in this order
            image = {"base64": base64.b64encode(picture or drawing(number)).decode(), "external_id": name}
            answer = self.ask("POST", "/v1/moderate", {"images": [image], "policy": policy}, who=who)
            made.append(answer["results"][0]["decision_id"])
        return made

    def decision(self, case_id: str) -> Any:
        """Return a decision with its feedback."""
        return self.ask("GET", f"/v1/decisions/{case_id}")

    def verdicts(self, case_id: str) -> list[tuple[str, str]]:
        """Return what was said of a case: kind and decision."""
        return [(row["kind"], row["decision"]) for row in self.decision(case_id)["feedback"]]

    def empty(self) -> None:
        """Decide all that waits, so that the next test begins with an empty queue."""
        while waiting := self.ask("GET", "/v1/reviews?limit=500")["data"]:
            for case in waiting:
                self.ask("POST", f"/v1/decisions/{case['id']}/feedback", {"decision": "allow"})


def drawing(number: int) -> bytes:
    """Return a drawing that no other number gives."""
    picture = shape(LABELS[number % len(LABELS)])
    picture.putpixel((0, 0), (number % 256, number // 256, 7))
    return encoded(picture)


def animation() -> bytes:
    """Return a GIF of three drawings."""
    frames = [shape(label) for label in LABELS[:3]]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=400, loop=0)
    return out.getvalue()


@contextmanager
def desk_of(stack: Stack, folder: Path, **environment: str) -> Iterator[Desk]:
    """Run a gateway with the keys of a chief and two reviewers, and the policy that has everything reviewed."""
    roles: dict[str, frozenset[Role]] = {
        "chief": EVERYTHING, "ann": frozenset({"review", "read"}), "ben": frozenset({"review", "read"}),
        "rita": frozenset({"review"}), "client": frozenset({"infer"}),
    }  # fmt: skip
    keys = {name: new_key() for name in roles}
    settings = {
        "GATEWAY_API_KEYS": ",".join(entry_of(ApiKey(name, digest_of(keys[name]), roles[name], None)) for name in keys),
        "REVIEW_IMAGES": "folder",
        "REVIEW_IMAGE_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "REVIEW_WITHHELD_PROCEDURE": "Call the duty officer.\nTell nobody else.",
        "DECISION_VECTORS": "true",
        "SIGN_INS_PER_MINUTE": "10000",  # on a fast machine the tests sign in more often than people do
        "LOG_LEVEL": "warning",
        **environment,
    }
    with more_gateways(stack, 1, folder, **settings) as (url,):
        desk = Desk(url, keys, folder)
        desk.ask("PUT", "/v1/classifiers/shapes", CLASSIFIER)
        desk.ask("PUT", "/v1/policies/shapes", POLICY)
        yield desk


class Reviewer:
    """A person at the review view, in a browser context of their own."""

    def __init__(self, context: BrowserContext, desk: Desk, name: str) -> None:
        self.context = context
        self.desk = desk
        self.name = name
        self.complaints: list[str] = []
        context.set_default_timeout(PATIENCE_MS)
        self.page: Page = context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if "Content Security Policy" in message.text or "Content-Security-Policy" in message.text:
            self.complaints.append(message.text)

    def sign_in(self) -> None:
        """Exchange the key for the session's cookie, from the console's own origin."""
        body = {"key": self.desk.keys[self.name], "reviewer": self.name}
        script = """async (body) => (await fetch("/v1/session", {
            method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)})).status"""
        self.page.goto(f"{self.desk.url}/console/")
        assert self.page.evaluate(script, body) in {200, 201}

    def open(self) -> None:
        """Sign in and go to the review view."""
        self.sign_in()
        self.page.goto("about:blank")
        self.page.goto(f"{self.desk.url}/console/#/review")

    @property
    def case(self) -> str:
        """The title of the case on the screen, once there is one."""
        return self.page.locator("#review-case").inner_text()

    def see(self, title: str) -> None:
        """Wait until a case is on the screen."""
        expect(self.page.locator("#review-case")).to_have_text(title, timeout=PATIENCE_MS)

    def see_another(self, title: str) -> None:
        """Wait until a case is no more on the screen."""
        expect(self.page.locator("#review-case", has_text=title)).to_have_count(0, timeout=PATIENCE_MS)

    def see_text(self, text: str) -> None:
        """Wait until the view says something."""
        expect(self.page.locator("main")).to_contain_text(text, timeout=PATIENCE_MS)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)
