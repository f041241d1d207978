"""Facts of third parties that are added when a prediction is served."""

from __future__ import annotations

from mlpipe_dagster.declaration.values import DeclaredModel
from prediction_contract.serving import Enrichment


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

    def of_provider(self, url: str) -> Enrichment:
        """Return the enrichment as the contract has it.

        Args:
            url: The provider's base address, without a slash at the end.

        Raises:
            InvalidServingError: A member has another form.
        """
        return Enrichment(
            name=self.name,
            url=f"{url}{self.path}",
            fields=tuple(self.fields),
            timeout_milliseconds=self.timeout_milliseconds,
            cache_seconds=self.cache_seconds,
            required=self.required,
        )
