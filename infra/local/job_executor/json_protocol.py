"""The AWS JSON 1.1 protocol: parses and validates requests, validates and serializes answers."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.model import OperationNotFoundError

from infra.local.job_executor.model_validation import violations

if TYPE_CHECKING:
    from botocore.model import OperationModel, ServiceModel


class ApiError(Exception):
    """An error answer with AWS's error code.

    Args:
        code: The modelled or common error code, such as `EntityNotFoundException`.
        message: AWS's message for the error.
        status: The HTTP status: 400 for the caller's faults, 500 for the service's.
    """

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(f"{code}: {message}")


class JsonProtocol:
    """The wire format of one service, driven by its botocore model.

    Args:
        service: botocore's service name, `glue` or `sagemaker`.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self._model: ServiceModel = botocore.session.get_session().get_service_model(service)
        self.target_prefix: str = self._model.metadata["targetPrefix"]

    def operation(self, name: str) -> OperationModel:
        """Return an operation's model, or raise AWS's error for an unknown one."""
        try:
            return self._model.operation_model(name)
        except OperationNotFoundError as error:
            raise ApiError("UnknownOperationException", f"{self.service} has no operation {name}.") from error

    def error_names(self, operation: str) -> list[str]:
        """Return the errors of an operation in the model."""
        shapes: Any = self.operation(operation).error_shapes
        return [shape.name for shape in shapes]

    def parse(self, operation: OperationModel, body: bytes) -> dict[str, Any]:
        """Parse a request body into validated parameters; timestamps stay seconds since 1970.

        Raises:
            ApiError: `SerializationException` or `ValidationException`.
        """
        try:
            raw = json.loads(body or b"{}")
        except ValueError as error:
            raise ApiError("SerializationException", f"The body is not JSON: {error}.") from error
        if not isinstance(raw, dict):
            raise ApiError("SerializationException", "The body is not a JSON object.")
        shape: Any = operation.input_shape
        if shape is None:
            return {}
        request = _known(shape, raw)
        found = violations(shape, _with_datetimes(shape, request))
        if found:
            plural = "" if len(found) == 1 else "s"
            text = "; ".join(found)
            raise ApiError("ValidationException", f"{len(found)} validation error{plural} detected: {text}")
        return request

    def serialize(self, operation: OperationModel, answer: dict[str, Any]) -> bytes:
        """Serialize an answer.

        Raises:
            ApiError: The answer violates the service model, which is a fault of the executor.
        """
        shape: Any = operation.output_shape
        if shape is None:
            return b"{}"
        found = violations(shape, _with_datetimes(shape, answer))
        if found:
            raise ApiError(
                "InternalFailure",
                f"The answer to {operation.name} violates the service model: {'; '.join(found)}",
                status=500,
            )
        return json.dumps(answer).encode()


def _known(shape: Any, raw: Any) -> Any:
    """Drop nulls and unknown members, as AWS's deserializers do."""
    if shape.type_name == "structure" and isinstance(raw, dict):
        members = shape.members
        return {
            name: _known(members[name], raw[name])
            for name in raw
            if name in members and raw[name] is not None
        }
    if shape.type_name == "list" and isinstance(raw, list):
        return [_known(shape.member, item) for item in raw]
    return raw


def _with_datetimes(shape: Any, value: Any) -> Any:
    """Return a copy with timestamps as datetimes, which botocore's validator expects."""
    if shape.type_name == "timestamp":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ApiError("SerializationException", f"{value!r} is not a timestamp in seconds since 1970.")
        try:
            return dt.datetime.fromtimestamp(value, tz=dt.UTC)
        except (ValueError, OverflowError, OSError) as error:
            raise ApiError(
                "SerializationException", f"{value!r} is not a timestamp in seconds since 1970."
            ) from error
    if shape.type_name == "structure" and isinstance(value, dict):
        members = shape.members
        return {
            name: _with_datetimes(members[name], member) if name in members else member
            for name, member in value.items()
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_with_datetimes(shape.member, item) for item in value]
    return value
