"""All codecs of a model: first the project's, then the platform's."""

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
# Remedies for the objects that users of these libraries often return.
_REMEDIES = {
    "lightgbm": "Return its `booster_`, and call the booster's predict in the model's predict function",
    "xgboost": "Return its `get_booster()`, and call the booster's predict in the model's predict function",
    "torch": "Return its `state_dict()`, and build the network in the model's predict function",
    "onnxruntime": "Return the `onnx.ModelProto` from which the session was created",
    "polars": "Return it as lists or NumPy arrays",
    "pandas": "Return it as lists or NumPy arrays",
    "pyarrow": "Return it as lists or NumPy arrays",
}


class Codecs:
    """The codecs of a model.

    Args:
        own: The project's codecs, as `module:Class`; they are tried first.

    Raises:
        CodecError: One of the project's codecs is missing, or is not a codec.
    """

    def __init__(self, own: Sequence[str] = ()) -> None:
        # JSON comes before skops, which also accepts plain values.
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
        """The names of the codecs, in the order in which they are tried."""
        return [codec.name for codec in self._known]

    def of(self, value: Any, name: str) -> Codec:
        """Return the codec of an object.

        Args:
            value: The object.
            name: The name that the model's `train` gave it.

        Raises:
            CodecError: No codec accepts it, or a codec of the project fails.
        """
        for codec in self._known:
            try:
                if codec.takes(value):
                    return codec
            except Exception as error:
                raise CodecError(
                    f"takes() of codec {codec.name} failed on {name}, which train returned: "
                    f"{type(error).__name__}: {str(error)[:300]}",
                    remedy="Correct the codec: takes(value) must return True or False for any object",
                ) from error
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise CodecError(
            f"train returned {kind} as {name}, and no codec takes it",
            remedy=_REMEDIES.get(library_of(value), _OWN_CODECS),
        )

    def named(self, name: str) -> Codec:
        """Return the codec with a name.

        Raises:
            CodecError: There is no such codec.
        """
        for codec in self._known:
            if codec.name == name:
                return codec
        raise CodecError(
            f"Codec {name} is unknown; the known codecs are {', '.join(self.names)}",
            remedy="Name the class that reads it in `codecs` of defs.yaml, as acme.codecs:Detector",
        )


def _own_codec(path: str) -> Codec:
    module, _, name = path.partition(":")
    try:
        codec = getattr(importlib.import_module(module), name)()
    except Exception as error:
        raise CodecError(
            f"Codec {path} cannot be created: {type(error).__name__}: {str(error)[:300]}",
            remedy="Name it in `codecs` of defs.yaml as module:Class, a class whose constructor needs no "
            "arguments",
        ) from error
    missing = [each for each in ("takes", "save", "load") if not callable(getattr(codec, each, None))]
    if missing or not NAME_FORM.fullmatch(str(getattr(codec, "name", ""))):
        raise CodecError(
            f"{path} is not a codec: it needs "
            f"{', '.join(missing) or 'a name of lower-case letters and digits'}",
            remedy="Give it `name`, takes(value), save(value) -> bytes and load(bytes)",
        )
    return codec
