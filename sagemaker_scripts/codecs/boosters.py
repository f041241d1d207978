"""Boosted trees: XGBoost's `Booster` as UBJSON, LightGBM's as its text.

Both parsers are native code. A damaged file can make them abort or allocate memory without limit. So a file's
digest is compared before it is parsed.
"""

from __future__ import annotations

from typing import Any

from sagemaker_scripts.codecs.codec import is_instance_of


class XgboostModel:
    """XGBoost's `Booster`; wrappers return it from `get_booster()`."""

    name = "xgboost"
    libraries = ("xgboost",)

    def takes(self, value: Any) -> bool:
        """Tell whether an object is a booster of XGBoost."""
        return is_instance_of(value, "xgboost", "Booster")

    def save(self, value: Any) -> bytes:
        """Return the booster as UBJSON; equal boosters give the same bytes."""
        return bytes(value.save_raw("ubj"))

    def load(self, content: bytes) -> Any:
        """Return the booster from UBJSON or XGBoost's JSON."""
        import xgboost  # noqa: PLC0415  # only models of this library have it

        # Both formats begin with this byte. XGBoost would parse other bytes as its old binary format.
        if content[:1] != b"{":
            raise ValueError("it is neither UBJSON nor JSON")
        booster = xgboost.Booster()
        booster.load_model(bytearray(content))
        return booster


class LightgbmModel:
    """LightGBM's `Booster`; wrappers have it as `booster_`."""

    name = "lightgbm"
    libraries = ("lightgbm",)

    def takes(self, value: Any) -> bool:
        """Tell whether an object is a booster of LightGBM."""
        return is_instance_of(value, "lightgbm", "Booster")

    def save(self, value: Any) -> bytes:
        """Return the booster as text, up to its best iteration if there is one."""
        return str(value.model_to_string()).encode()

    def load(self, content: bytes) -> Any:
        """Return the booster from its text."""
        import lightgbm  # noqa: PLC0415  # only models of this library have it

        text = content.decode()
        if not text.startswith("tree\n"):
            raise ValueError("it is not the text of a LightGBM model")
        return lightgbm.Booster(model_str=text)
