"""``/``: a page with links, for who opens the gateway's address in a browser."""

from __future__ import annotations

import base64
import hashlib

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.requests import Request

from gateway.api.dependencies import Services

router = APIRouter(include_in_schema=False)

STYLE = """
:root { color-scheme: light dark; font: 1rem/1.6 system-ui, sans-serif; }
body { margin: 12vh auto; max-width: 36rem; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; }
dt { font-weight: 600; margin-top: 1rem; }
dd { margin: 0; }
"""
POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>CLIP moderation gateway</title>
<style>{STYLE}</style>
</head>
<body>
<h1>CLIP moderation gateway</h1>
<p>This service judges images against words. %s</p>
<dl>
<dt><a href="docs">API</a></dt><dd>Every route, with requests that you can send from the browser.</dd>
<dt><a href="openapi.json">OpenAPI description</a></dt><dd>The same for programs.</dd>
<dt><a href="readyz">Readiness</a></dt><dd>Whether requests can be answered, and what fails if not.</dd>
<dt><a href="metrics">Metrics</a></dt><dd>For Prometheus; they need a key where keys are configured.</dd>
</dl>
</body>
</html>
"""
DEMO = "It runs the bundled demo model, which understands drawings only."
REAL = "It runs a CLIP trained on photographs."


@router.get("/", response_class=HTMLResponse)
@router.head("/", response_class=HTMLResponse)
async def start_page(request: Request) -> HTMLResponse:
    """Return the page; it names no model that a key would be needed to see."""
    services: Services = request.state.services
    said = DEMO if services.manifest.model.demo else REAL
    return HTMLResponse(PAGE.replace("%s", said), headers={"Content-Security-Policy": POLICY})
