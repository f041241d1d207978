"""safetensors: a tensor of PyTorch or a dict of tensors; the network itself is in the model's code."""

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
    """Accepts a tensor or the result of a module's `state_dict()`.

    A file that was not written here, for example of a model trained elsewhere, is read as NumPy arrays.
    """

    name = "safetensors"
    libraries = ("safetensors", "torch")

    def takes(self, value: Any) -> bool:
        """Tell whether an object is a tensor of PyTorch or a dict of tensors."""
        if is_instance_of(value, "torch", "Tensor"):
            return True
        return (
            isinstance(value, dict)
            and len(value) > 0
            and all(type(key) is str and key for key in value)
            and all(is_instance_of(each, "torch", "Tensor") for each in value.values())
        )

    def save(self, value: Any) -> bytes:
        """Return the tensors as a file; equal tensors give the same bytes in any order."""
        from safetensors.torch import save  # noqa: PLC0415  # only models of PyTorch have it

        tensors = value if isinstance(value, dict) else {_ALONE: value}
        # safetensors refuses tied weights, because they share memory, so copy all tensors.
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
    """Return the metadata in the file's JSON header, which follows the header's size."""
    size = int.from_bytes(content[:_HEADER_BYTES], "little")
    header = json.loads(content[_HEADER_BYTES : _HEADER_BYTES + size])
    return header.get("__metadata__", {})
