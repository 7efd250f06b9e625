"""Query parameters: unknown ones are refused, as unknown fields of a body are.

Else ``?active=false`` for ``?activate=false`` would put a draft in force, and ``?external=…`` read everybody's
decisions.
"""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.requests import Request

from gateway.errors import InvalidRequest


async def known_parameters(request: Request) -> None:
    """Check the names of the query's parameters against those that the route declares; for ``Depends``.

    Raises:
        InvalidRequest: one is not known, or given twice.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            shown = name.encode("ascii", "backslashreplace").decode()[:100]
            takes = f"this path takes {', '.join(known)}" if known else "this path takes none"
            raise InvalidRequest(f"The query parameter “{shown}” is not known: {takes}.")
        if names.count(name) > 1:
            raise InvalidRequest(f"The query parameter “{name}” is given twice.")
