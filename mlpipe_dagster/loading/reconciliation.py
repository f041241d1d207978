"""Whether both stores hold what a batch's manifest promises: counts and checksums, in words for a person."""

from __future__ import annotations

from dataclasses import dataclass

from mlpipe_dagster.loading.online_count import OnlineCount
from prediction_contract.manifests.load_report import LoadEvidence, LoadReport
from prediction_contract.rows.checksums import RowTally

_SPAN = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBalance:
    """What one store holds of a batch, beside what it should.

    Attributes:
        store: `dynamodb` or `snowflake`.
        promised: By the manifest.
        stored: In the store.
        quarantined: Refused rows, which no store holds.
        read_back: Rows that the load read back and found equal.
        must_read_back: Whether all of them had to be.
        looked_up: Rows that Dagster itself looked up in a store too large to be counted.
        missing: How many of these were not there.
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
        """What does not add up, each as a sentence without a full stop; empty if all does."""
        total = self.stored.plus(self.quarantined)
        found = []
        if total.rows != self.promised.rows:
            found.append(
                f"{self.store} holds {self.stored.rows} rows and {self.quarantined.rows} are in quarantine, "
                f"but the manifest promises {self.promised.rows}"
            )
        elif not self.stored.rows:
            found.append(f"{self.store} holds no row of the batch: none of {self.promised.rows} was accepted")
        if (total.checksum - self.promised.checksum) % _SPAN:
            found.append(
                f"the rows in {self.store} and in quarantine are not those that the manifest promises"
            )
        if self.must_read_back and self.read_back != self.stored.rows:
            found.append(
                f"of {self.stored.rows} rows in {self.store} {self.read_back} were read back and found equal"
            )
        if self.missing > self.quarantined.rows:
            found.append(
                f"of {self.looked_up} rows that were looked up in {self.store} {self.missing} are not there, "
                f"and {self.quarantined.rows} are in quarantine"
            )
        return tuple(found)

    def metadata(self) -> dict[str, int | str]:
        """Return the numbers for Dagster."""
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
    """Return the balances of DynamoDB and Snowflake.

    Args:
        report: The complete load's.
        promised: Rows and checksum of the manifest, from the registry.
        online: What was found in DynamoDB after the load; of a batch too large for it, some rows beside what
            the load's report says.
        snowflake: What was counted in Snowflake after the load.
        must_read_back: Whether the load had to read every row back.

    Raises:
        ValueError: The report is not one of a complete load.
    """
    if report.dynamodb is None or report.snowflake is None:
        raise ValueError(f"The report of load {report.attempt} of {report.batch_id} is {report.status}.")
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
    """Return the balances as what the registry's rule judges."""
    return LoadEvidence(
        attempt=report.attempt,
        dynamodb=online.stored,
        snowflake=warehouse.stored,
        quarantined=online.quarantined,
    )
