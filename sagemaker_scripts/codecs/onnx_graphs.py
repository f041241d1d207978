"""ONNX: writes a graph, and reads it as a session of onnxruntime."""

from __future__ import annotations

from typing import Any

from sagemaker_scripts.codecs.codec import is_instance_of


class OnnxGraph:
    """Accepts `onnx.ModelProto`; loading needs only onnxruntime.

    A graph must contain its weights. onnxruntime refuses references to other files, because it receives the
    graph without a folder. Custom operators are not supported.
    """

    name = "onnx"
    libraries = ("onnx", "onnxruntime")

    def takes(self, value: Any) -> bool:
        """Tell whether an object is a graph."""
        return is_instance_of(value, "onnx", "ModelProto")

    def save(self, value: Any) -> bytes:
        """Return the graph as protobuf; equal graphs give the same bytes."""
        return bytes(value.SerializeToString(deterministic=True))

    def load(self, content: bytes) -> Any:
        """Return an `onnxruntime.InferenceSession` on the CPU."""
        import onnxruntime  # noqa: PLC0415  # only models of this library have it

        return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
