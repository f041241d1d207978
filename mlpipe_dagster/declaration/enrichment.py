"""Facts of third parties that are added when a prediction is served."""

from __future__ import annotations

from mlpipe_dagster.declaration.values import DeclaredModel


class DeclaredEnrichment(DeclaredModel):
    """Facts that a provider adds to a prediction when it is served.

    Attributes:
        name: Under which the answer shows them.
        provider: Whose address the environment gives as `MLPIPE_<PROVIDER>_URL`.
        path: Path and query below that address, with `{column}` placeholders.
        fields: Members of the provider's answer that are shown.
    """

    name: str
    provider: str
    path: str
    fields: list[str]
    timeout_milliseconds: int = 500
    cache_seconds: int = 300
    required: bool = False
