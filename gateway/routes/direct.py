"""The routes that pictures go to, called without the framework's layers between.

FastAPI documents these routes and would serve them the same way: they read their bodies themselves and return finished
responses, so that what it does around them (exception handlers twice, stacks of things to close, dependencies, a
regular expression a route) finds nothing to do, and takes a seventh of the gateway's processor time for a picture.
Whatever is not plainly such a request, one with a query say, goes the framework's way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import GatewayError
from gateway.routes.access import authorise
from gateway.routes.problems import answered
from gateway.telemetry import Metrics


class Direct:
    """ASGI middleware: answers requests to some routes, and passes on all others.

    Args:
        app: what it wraps.
        routes: those it may answer. Of their functions it takes the ones that need the request alone.
        metrics: errors are counted there.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, APIRoute) and not route.param_convertors and not route.dependant.dependencies
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = None
        if scope["type"] == "http" and not scope["query_string"] and not scope.get("root_path"):
            route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            await authorise(request)
            response = cast("Response", await route.endpoint(request))
        except GatewayError as error:
            response = answered(request, error, self._metrics)
        await response(scope, receive, send)
