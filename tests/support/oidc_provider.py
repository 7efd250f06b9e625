"""A small OpenID Connect provider in a thread: real discovery, real RS256, and faults on demand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "gateway", "a secret of the client"


@dataclass
class Provider:
    """What it says next; tests change it."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "first"}, private=True))
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256", "kid": "first"})
    published: Any = None
    status: int = 200
    delay_s: float = 0.0
    id_token: str | None = None
    asked: dict[str, dict[str, str]] = field(default_factory=dict)  # by code
    given: int = 0

    def consent(self, url: str) -> tuple[str, str]:
        """Do what a person does at the authorization endpoint; return state and code."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        self.given += 1
        self.asked[f"code-{self.given}"] = asked
        return asked["state"], f"code-{self.given}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Answer the token endpoint; None refuses."""
        asked = self.asked.pop(form.get("code", ""), None)  # once
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        basic = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        if (
            asked is None
            or asked["code_challenge"] != base64url(challenge)
            or asked["code_challenge_method"] != "S256"
            or asked["redirect_uri"] != form["redirect_uri"]
            or basic != f"{CLIENT}:{SECRET}"
        ):
            return None
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "7", "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        claims |= {"email": "ann@example.org", "email_verified": True, "groups": ["moderators", "staff"]} | self.claims
        if self.header["alg"] in {"none", "HS256"}:  # which no library would sign so
            signed = ".".join(base64url(json.dumps(part).encode()) for part in (self.header, claims))
            by_public_key = hmac.digest(self.key.as_pem(private=False), signed.encode(), "sha256")
            signed += "." if self.header["alg"] == "none" else f".{base64url(by_public_key)}"
        else:
            signed = jwt.encode(self.header, claims, self.key)
        return {"access_token": "a", "token_type": "Bearer", "id_token": self.id_token or signed}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def provider() -> Iterator[Provider]:
    """Run a provider on a port of this machine."""
    made = Provider()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(made.delay_s)
            if self.path == "/.well-known/openid-configuration":
                names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
                self.say({"issuer": made.issuer} | {name: f"{made.issuer}/{path}" for name, path in names.items()})
            else:
                self.say({"keys": [(made.published or made.key).as_dict(private=False)]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            answer = made.token(form, self.headers.get("Authorization", ""))
            self.say(answer or {"error": "invalid_grant"}, 200 if answer else 400)

        def say(self, answer: dict[str, Any], status: int = 200) -> None:
            self.send_response(status if made.status == 200 else made.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.issuer = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join()
