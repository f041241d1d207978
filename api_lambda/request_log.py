"""The log line of a request, from which CloudWatch also takes its metrics.

The line is JSON in CloudWatch's embedded metric format. It never holds tokens or values of rows.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api_lambda.store.live_batch import LiveBatch

NAMESPACE = "mlpipe"
_FAULT = 500
# CloudWatch's units by member of the line.
_ROUTE_METRICS = {"milliseconds": "Milliseconds", "faults": "Count"}
_MODEL_METRICS = {
    "predictions": "Count",
    "not_found": "Count",
    "stale_enrichments": "Count",
    "unavailable_enrichments": "Count",
    "pointer_age": "Seconds",
}
# The fault noted when a request is served although the region's pointer names a later publication.
NOT_REPLICATED = "publication_not_replicated"


@dataclass(slots=True)
class RequestLog:
    """Collects the values of a request's log line.

    Attributes:
        started: When the request began, by `time.perf_counter`.
        notes: Members of the line.
        milliseconds: The duration of each stage; a repeated stage is summed.
    """

    started: float = field(default_factory=time.perf_counter)
    notes: dict[str, Any] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage of the request, even if it fails."""
        began = time.perf_counter()
        try:
            yield
        finally:
            took = (time.perf_counter() - began) * 1000
            self.milliseconds[name] = round(self.milliseconds.get(name, 0) + took, 3)

    def serves(self, live: LiveBatch) -> None:
        """Note the batch that is served, the time since its publication, and whether it is behind."""
        age = max(0, int(time.time() - live.published))
        self.notes.update(model=live.model, batch_id=live.batch_id, pointer_age=age)
        if live.is_behind:
            self.notes["fault"] = NOT_REPLICATED

    def found(self, predictions: int, *, not_found: int) -> None:
        """Note how many predictions were requested, and how many of them do not exist."""
        self.notes.update(predictions=predictions, not_found=not_found)

    def line(self, *, stage: str, request_id: str, trace_id: str, route: str | None, status: int) -> str:
        """Return the line.

        Args:
            stage: The deployment's stage.
            request_id: Lambda's request id.
            trace_id: X-Ray's header as received.
            route: The route's name; None if no route matches.
            status: The answer's HTTP status.
        """
        faults = int(status >= _FAULT or "fault" in self.notes)
        members = {
            "level": "ERROR" if faults else "INFO",
            "stage": stage,
            "request_id": request_id,
            "trace_id": trace_id,
            "route": route,
            "status": status,
            "milliseconds": round((time.perf_counter() - self.started) * 1000, 3),
            "faults": faults,
            **self.notes,
            "stages": self.milliseconds,
        }
        measured = tuple(name for name in _MODEL_METRICS if name in self.notes)
        directives = _directives(by_route=bool(route), of_model=measured if "model" in self.notes else None)
        moment = int(time.time() * 1000)
        return f'{{"_aws":{{"Timestamp":{moment},"CloudWatchMetrics":{directives}}},{json.dumps(members)[1:]}'


@cache
def _directives(*, by_route: bool, of_model: tuple[str, ...] | None) -> str:
    """Return the JSON that makes CloudWatch take metrics from a line; cached, as there are few variants."""
    by_dimension = {
        **({"route": _ROUTE_METRICS} if by_route else {}),
        **({"model": {name: _MODEL_METRICS[name] for name in of_model}} if of_model is not None else {}),
    }
    return json.dumps(
        [
            {
                "Namespace": NAMESPACE,
                "Dimensions": [["stage", dimension]],
                "Metrics": [{"Name": name, "Unit": unit} for name, unit in metrics.items()],
            }
            for dimension, metrics in by_dimension.items()
        ]
    )
