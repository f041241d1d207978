"""Compares the rows in both stores with a batch's manifest by counts and checksums."""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe_dagster.loading.online_count import OnlineCount
from prediction_contract.manifests.load_report import LoadEvidence, LoadReport
from prediction_contract.rows.checksums import RowTally

_SPAN = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBalance:
    """One store's rows of a batch, compared with what it should hold.

    Attributes:
        store: `dynamodb` or `snowflake`.
        promised: The rows of the manifest.
        stored: The rows in the store.
        quarantined: The refused rows, which no store holds.
        read_back: The number of rows that the load read back and found equal.
        must_read_back: Whether the load had to read back all rows.
        looked_up: The number of rows that Dagster looked up in a store too large to count.
        missing: The number of looked-up rows that were not found.
    """

    store: str
    promised: RowTally
    stored: RowTally
    quarantined: RowTally
    read_back: int
    must_read_back: bool
    looked_up: int = 0
    missing: int = 0

    @property
    def faults(self) -> tuple[str, ...]:
        """The differences, each as a sentence without a full stop; empty if there are none."""
        total = self.stored.plus(self.quarantined)
        found = []
        if total.rows != self.promised.rows:
            found.append(
                f"{self.store} holds {self.stored.rows} rows and {self.quarantined.rows} are in quarantine, "
                f"but the manifest has {self.promised.rows}"
            )
        elif not self.stored.rows:
            found.append(f"{self.store} holds no row of the batch: none of {self.promised.rows} was accepted")
        if (total.checksum - self.promised.checksum) % _SPAN:
            found.append(
                f"the checksum of the rows in {self.store} and in quarantine differs from the manifest's"
            )
        if self.must_read_back and self.read_back != self.stored.rows:
            found.append(
                f"only {self.read_back} of {self.stored.rows} rows in {self.store} "
                "were read back and found equal"
            )
        if self.missing > self.quarantined.rows:
            found.append(
                f"{self.missing} of the {self.looked_up} rows looked up in {self.store} are missing, "
                f"but only {self.quarantined.rows} are in quarantine"
            )
        return tuple(found)

    def metadata(self) -> dict[str, int | str]:
        """Return the numbers as Dagster metadata."""
        return {
            "rows_promised": self.promised.rows,
            "rows_stored": self.stored.rows,
            "rows_quarantined": self.quarantined.rows,
            "rows_read_back": self.read_back,
            "rows_looked_up": self.looked_up,
            "checksum_promised": str(self.promised.checksum % _SPAN),
            "checksum_found": str(self.stored.plus(self.quarantined).checksum % _SPAN),
        }


def balances(
    report: LoadReport,
    promised: RowTally,
    online: OnlineCount,
    snowflake: RowTally,
    *,
    must_read_back: bool,
) -> tuple[StoreBalance, StoreBalance]:
    """Compare both stores with the manifest.

    Args:
        report: The report of the complete load.
        promised: Rows and checksum of the manifest, from the registry.
        online: The rows found in DynamoDB after the load. If they are only some of the batch, the load's
            report provides the total.
        snowflake: The rows counted in Snowflake after the load.
        must_read_back: Whether the load had to read back all rows.

    Raises:
        ValueError: The report is not of a complete load.
    """
    if report.dynamodb is None or report.snowflake is None:
        raise ValueError(
            f"The report of load {report.attempt} of {report.batch_id} is {report.status}, not complete."
        )
    common = {
        "promised": promised,
        "quarantined": report.quarantine.rows,
        "must_read_back": must_read_back,
    }
    return (
        StoreBalance(
            store="dynamodb",
            stored=online.found if online.is_whole else report.dynamodb.rows,
            read_back=report.dynamodb.verified_rows,
            looked_up=online.asked,
            missing=0 if online.is_whole else online.asked - online.found.rows,
            **common,
        ),
        StoreBalance(store="snowflake", stored=snowflake, read_back=report.snowflake.verified_rows, **common),
    )


def evidence(report: LoadReport, online: StoreBalance, warehouse: StoreBalance) -> LoadEvidence:
    """Return the balances in the form that the registry's rule checks."""
    return LoadEvidence(
        attempt=report.attempt,
        dynamodb=online.stored,
        snowflake=warehouse.stored,
        quarantined=online.quarantined,
    )
