"""All codecs of a model: the project's own first, then the platform's."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from sagemaker_scripts.codecs.boosters import LightgbmModel, XgboostModel
from sagemaker_scripts.codecs.codec import NAME_FORM, Codec, CodecError, library_of
from sagemaker_scripts.codecs.json_values import JsonValues
from sagemaker_scripts.codecs.onnx_graphs import OnnxGraph
from sagemaker_scripts.codecs.safetensors_weights import SafetensorsWeights
from sagemaker_scripts.codecs.skops_objects import SkopsObjects

_OWN_CODECS = "Name a class of the project in `codecs` of defs.yaml that has takes, save and load"
# The objects that their users return first, and what to return in their place.
_IN_PLACE_OF = {
    "lightgbm": "Return its `booster_`, and call the booster's predict in the model's predict function",
    "xgboost": "Return its `get_booster()`, and call the booster's predict in the model's predict function",
    "torch": "Return its `state_dict()`, and build the network in the model's predict function",
    "onnxruntime": "Return the `onnx.ModelProto` that the session was made of",
    "polars": "Return lists or NumPy arrays of it",
    "pandas": "Return lists or NumPy arrays of it",
    "pyarrow": "Return lists or NumPy arrays of it",
}


class Codecs:
    """The codecs of a model.

    Args:
        own: Those of its project, as `module:Class`; they are asked first.

    Raises:
        CodecError: One of them is not there, or is no codec.
    """

    def __init__(self, own: Sequence[str] = ()) -> None:
        # JSON before skops, which takes plain values as well.
        self._known: list[Codec] = [
            *map(_own_codec, own),
            JsonValues(),
            SkopsObjects(),
            XgboostModel(),
            LightgbmModel(),
            OnnxGraph(),
            SafetensorsWeights(),
        ]

    @property
    def names(self) -> list[str]:
        """Their names, in the order that they are asked in."""
        return [codec.name for codec in self._known]

    def of(self, value: Any, name: str) -> Codec:
        """Return the codec of an object.

        Args:
            value: The object.
            name: What the model's `train` calls it.

        Raises:
            CodecError: No codec takes it, or one of the project's own fails.
        """
        for codec in self._known:
            try:
                if codec.takes(value):
                    return codec
            except Exception as error:
                raise CodecError(
                    f"The codec {codec.name} cannot tell whether it takes {name}, which train returned: "
                    f"{type(error).__name__}: {str(error)[:300]}",
                    remedy="Correct the codec: takes(value) answers for any object",
                ) from error
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise CodecError(
            f"train returned {kind} as {name}, and no codec takes it",
            remedy=_IN_PLACE_OF.get(library_of(value), _OWN_CODECS),
        )

    def named(self, name: str) -> Codec:
        """Return the codec of a name.

        Raises:
            CodecError: There is none.
        """
        for codec in self._known:
            if codec.name == name:
                return codec
        raise CodecError(
            f"There is no codec {name}; there are {', '.join(self.names)}",
            remedy="Name the class that reads it in `codecs` of defs.yaml, as acme.codecs:Detector",
        )


def _own_codec(path: str) -> Codec:
    module, _, name = path.partition(":")
    try:
        codec = getattr(importlib.import_module(module), name)()
    except Exception as error:
        raise CodecError(
            f"The codec {path} cannot be made: {type(error).__name__}: {str(error)[:300]}",
            remedy="Correct `codecs` in defs.yaml: module:Class of the project, made without arguments",
        ) from error
    missing = [each for each in ("takes", "save", "load") if not callable(getattr(codec, each, None))]
    if missing or not NAME_FORM.fullmatch(str(getattr(codec, "name", ""))):
        raise CodecError(
            f"{path} is no codec: it needs {', '.join(missing) or 'a name of lower-case letters and digits'}",
            remedy="Give it `name`, takes(value), save(value) -> bytes and load(bytes)",
        )
    return codec
