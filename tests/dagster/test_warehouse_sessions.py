"""Every Snowflake session of Dagster has time limits, so that no statement holds a pool's slot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import snowflake.connector

from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.stores.warehouse_table import SESSION_PARAMETERS

if TYPE_CHECKING:
    from mlpipe_dagster.resources.platform import Platform


@pytest.mark.stack
@pytest.mark.parametrize("opens", ["session", "quick_session"])
def test_session_limits_waits_for_locks_and_statements(
    platform: Platform, opens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snowflake's defaults are twelve hours for locks and two days for statements."""
    connect, asked = snowflake.connector.connect, []

    def connected(**arguments: Any) -> Any:
        asked.append(dict(arguments["session_parameters"]))
        return connect(**arguments)

    monkeypatch.setattr(snowflake.connector, "connect", connected)
    with getattr(Warehouse(platform=platform), opens)() as session:
        assert session.rows("SELECT 1") == [(1,)]
    assert asked == [dict(SESSION_PARAMETERS)]
    assert {"LOCK_TIMEOUT", "STATEMENT_TIMEOUT_IN_SECONDS"} <= SESSION_PARAMETERS.keys()
