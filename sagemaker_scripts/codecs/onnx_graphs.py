"""ONNX: a graph goes in, a session of onnxruntime comes out."""

from __future__ import annotations

from typing import Any

from sagemaker_scripts.codecs.codec import is_instance_of


class OnnxGraph:
    """Takes `onnx.ModelProto`; loading needs onnxruntime alone.

    A graph must hold its weights itself: a file that names other files is refused by onnxruntime, because the
    graph comes to it without a folder. No library of operators is registered.
    """

    name = "onnx"
    libraries = ("onnx", "onnxruntime")

    def takes(self, value: Any) -> bool:
        """Tell whether an object is a graph."""
        return is_instance_of(value, "onnx", "ModelProto")

    def save(self, value: Any) -> bytes:
        """Return the graph as protobuf; equal ones give the same bytes."""
        return bytes(value.SerializeToString(deterministic=True))

    def load(self, content: bytes) -> Any:
        """Return a session on the CPU."""
        import onnxruntime  # noqa: PLC0415  # only models of this library have it

        return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
