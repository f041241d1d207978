"""Facts of third parties that are added when a prediction is served."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from mlpipe_dagster.declaration.values import DeclaredModel, inconsistency
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.resource_names import validated_provider_name
from prediction_contract.stores.serving_record import Enrichment


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

    @model_validator(mode="after")
    def _names_a_provider(self) -> Self:
        """Refuse a provider that could have no address."""
        try:
            validated_provider_name(self.provider)
        except InvalidNameError as error:
            raise inconsistency(str(error), "provider") from error
        return self

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
