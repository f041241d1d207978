"""safetensors: PyTorch's tensors, one or a dict of them; the network itself is the model's own code."""

from __future__ import annotations

import json
from typing import Any

from sagemaker_scripts.codecs.codec import is_instance_of

_MADE_BY = "format"
_PYTORCH = "pt"
# The name of a tensor that is not in a dict.
_ALONE = ""
_HEADER_BYTES = 8


class SafetensorsWeights:
    """Takes a tensor, and what `state_dict()` of a module returns.

    A file that PyTorch did not write, say one that was trained elsewhere, comes back as NumPy arrays.
    """

    name = "safetensors"
    libraries = ("safetensors", "torch")

    def takes(self, value: Any) -> bool:
        """Tell whether an object is a tensor of PyTorch or a dict of some."""
        if is_instance_of(value, "torch", "Tensor"):
            return True
        return (
            isinstance(value, dict)
            and len(value) > 0
            and all(type(key) is str and key for key in value)
            and all(is_instance_of(each, "torch", "Tensor") for each in value.values())
        )

    def save(self, value: Any) -> bytes:
        """Return the tensors; equal ones give the same bytes, in whatever order they come."""
        from safetensors.torch import save  # noqa: PLC0415  # only models of PyTorch have it

        tensors = value if isinstance(value, dict) else {_ALONE: value}
        # Tied weights share their memory, which safetensors refuses.
        whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        return bytes(save(whole, metadata={_MADE_BY: _PYTORCH}))

    def load(self, content: bytes) -> Any:
        """Return the tensors by name."""
        if _metadata(content).get(_MADE_BY) == _PYTORCH:
            from safetensors.torch import load  # noqa: PLC0415  # as above
        else:
            from safetensors.numpy import load  # noqa: PLC0415  # as above
        tensors = load(content)
        return tensors[_ALONE] if set(tensors) == {_ALONE} else tensors


def _metadata(content: bytes) -> dict[str, Any]:
    """Return what the writer said of a file: JSON in its header, whose size comes first."""
    size = int.from_bytes(content[:_HEADER_BYTES], "little")
    header = json.loads(content[_HEADER_BYTES : _HEADER_BYTES + size])
    return header.get("__metadata__", {})
