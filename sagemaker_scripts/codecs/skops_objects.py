"""skops: scikit-learn's estimators, arrays, and lists, tuples and dicts of them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

from sagemaker_scripts.codecs.codec import CodecError, library_of
from sagemaker_scripts.codecs.decision_trees import check_trees

# Types that skops does not trust by default, with notes on how they are built. None of them runs code from
# the file: skops creates an object without its constructor and sets arrays, numbers and texts.
TRUSTED_TYPES = [
    # `__setstate__` checks types and shapes of the arrays and copies them: random forests and single trees.
    # The references between nodes of this and the next type are checked afterwards.
    "sklearn.tree._tree.Tree",
    # `__setstate__` keeps three arrays and casts one: HistGradientBoosting.
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    # Python objects of numbers and arrays: CalibratedClassifierCV and MLP.
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    # Functions of numbers, which `predict` never calls: SelectKBest and similar classes.
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    # A dict whose keys are also attributes: VotingRegressor and StackingRegressor.
    "sklearn.utils._bunch.Bunch",
    # It calls a function that must be trusted too. The next one checks an array: HistGradientBoosting.
    "functools.partial",
    "sklearn.utils.validation.check_array",
    # The type of an array's elements: SimpleImputer and KBinsDiscretizer.
    "numpy.dtype",
]
_LIBRARIES = frozenset({"sklearn", "numpy", "scipy"})
_PLAIN = frozenset({type(None), bool, int, float, str})
_LARGEST_CONTENT = 1024 * 1024 * 1024
_MOST_MEMBERS = 100_000


class SkopsObjects:
    """Accepts objects of scikit-learn, NumPy and SciPy, and plain values."""

    name = "skops"
    libraries = ("sklearn", "skops")

    def takes(self, value: Any) -> bool:
        """Tell whether a value is plain, from one of these libraries, or a collection of such values."""
        if type(value) in _PLAIN or library_of(value) in _LIBRARIES:
            return True
        if type(value) is dict:
            return all(map(self.takes, value)) and all(map(self.takes, value.values()))
        return type(value) in {list, tuple} and all(map(self.takes, value))

    def save(self, value: Any) -> bytes:
        """Return the object as a file.

        Raises:
            CodecError: The object holds types that would not be trusted when it is read.
        """
        import skops.io  # noqa: PLC0415  # 1 s that models of other libraries need not wait

        content = skops.io.dumps(value)
        _refuse_unknown_types(content)
        return content

    def load(self, content: bytes) -> Any:
        """Return the object.

        Raises:
            CodecError: The file holds types that are not trusted.
            ValueError: The file is too large when unpacked, or holds a decision tree with invalid references.
        """
        import skops.io  # noqa: PLC0415  # as above

        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            _refuse_too_large(packed)
        _refuse_unknown_types(content)
        value = skops.io.loads(content, trusted=TRUSTED_TYPES)
        check_trees(value)
        return value

    def digest(self, content: bytes) -> str:
        """Return the digest of a file's content, which is the same for equal objects.

        The file's bytes differ each time, because skops writes the objects' addresses and the time.
        """
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            _refuse_too_large(packed)
            digests = {name: hashlib.sha256(packed.read(name)).hexdigest() for name in packed.namelist()}
            schema = json.loads(
                packed.read("schema.json"),
                object_hook=lambda node: {
                    name: digests.get(value, value) if name == "file" and isinstance(value, str) else value
                    for name, value in node.items()
                    if name != "__id__" or not isinstance(value, int)
                },
            )
        return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()


def _refuse_too_large(packed: zipfile.ZipFile) -> None:
    """Refuse a file that is too large when unpacked; zipfile reads at most the stated size of a member."""
    members = packed.infolist()
    size = sum(member.file_size for member in members)
    if len(members) > _MOST_MEMBERS or size > _LARGEST_CONTENT:
        raise ValueError(f"it unpacks to {size} bytes in {len(members)} members, more than allowed")


def _refuse_unknown_types(content: bytes) -> None:
    import skops.io  # noqa: PLC0415  # as above

    unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES))
    if unknown:
        raise CodecError(
            f"It holds types that are not trusted: {', '.join(unknown)[:300]}",
            remedy="Write a codec for the object and name its class in `codecs` of defs.yaml, or build the "
            "object from scikit-learn's own classes and plain values",
        )
