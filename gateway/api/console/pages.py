"""Pages for browsers: ``/`` with links, and ``/docs`` with Swagger UI."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

DEMO = "It runs the bundled demo model, which understands drawings only."
REAL = "It runs a CLIP trained on photographs."
CONSOLE = '<dt><a href="console">Console</a></dt><dd>Try pictures, review decisions, tune policies.</dd>\n'


def install_pages(app: FastAPI, *, demo: bool, console: bool) -> None:
    """Serve the pages from installed files, so that they work in a closed network too.

    Args:
        app: the application.
        demo: whether the model is the demo one; no page says more about it, as pages need no key.
        console: whether there is one to link.
    """
    app.mount("/swagger", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="swagger")
    start = resources.files("gateway.api.console").joinpath("start_page.html").read_text(encoding="utf-8")
    start = start.replace("{{model}}", DEMO if demo else REAL).replace("{{console}}", CONSOLE if console else "")
    _add_page(app, "/", start, f"style-src {_digests('style', start)}")
    swagger = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url="swagger/swagger-ui-bundle.js",
        swagger_css_url="swagger/swagger-ui.css",
        swagger_favicon_url="swagger/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
    )
    docs = bytes(swagger.body).decode()
    scripts = f"script-src 'self' {_digests('script', docs)}"
    _add_page(
        app, "/docs", docs, f"{scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'"
    )


def _add_page(app: FastAPI, path: str, page: str, allowed: str) -> None:
    """Serve a page that may load what ``allowed``, a content policy, names, and nothing else."""
    policy = f"default-src 'none'; {allowed}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

    async def answer() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    app.add_api_route(path, answer, methods=["GET", "HEAD"], include_in_schema=False)


def _digests(name: str, page: str) -> str:
    """Return, for a content policy, the digests of what stands in a page between tags of this name."""
    contents = re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{digest}'" for digest in digests)
