"""Whether the function runs, and whether its region can serve; neither says anything about data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_lambda.http.alb import Response

if TYPE_CHECKING:
    from api_lambda.calls import Call


def healthz(_call: Call) -> Response:
    """Answer the load balancer: the function runs. What it depends on is no reason to take it out."""
    return Response(200, '{"status":"ok"}')


def readyz(call: Call) -> Response:
    """Answer Route 53: the region's store answers and its pointers can be read; a late batch is no fault."""
    call.services.publications.require_ready(call.until)
    return Response(200, '{"status":"ready"}')
