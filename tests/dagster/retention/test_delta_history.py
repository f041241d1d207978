"""Batches are removed from the Delta table while scoring jobs commit to it, and no row is lost."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import deltalake
import pytest
from deltalake.exceptions import CommitFailedError

from mlpipe_dagster.retention.delta_history import DeltaHistory, DeltaRemovalError
from tests.dagster.loaded_model import COLUMNS, LoadedModel
from tests.dagster.small_model import declaration
from tests.dagster.swept_model import SweptModel

if TYPE_CHECKING:
    from mlpipe_dagster.resources.platform import Platform
    from model_declaration.declaration import ModelDeclaration

pytestmark = pytest.mark.stack
COMMITS = 5


@pytest.fixture
def swept(platform: Platform, model: ModelDeclaration) -> SweptModel:
    """Make a model without batches on the platform."""
    return SweptModel(LoadedModel(platform, declaration(model.name, columns=COLUMNS)))


def history(swept: SweptModel, **changes: Any) -> DeltaHistory:
    """Return the model's Delta table as the retention sweep uses it."""
    return DeltaHistory(swept.platform.settings.data_bucket, swept.name, lambda: swept.options, **changes)


def test_batches_are_removed_during_commits_of_others(swept: SweptModel) -> None:
    """After concurrent removals and commits the table holds exactly the new batches."""
    old = [swept.batch_id() for _ in range(COMMITS)]
    new = [swept.batch_id() for _ in range(COMMITS)]
    for batch_id in old:
        swept.commit(batch_id)
    failures: list[Exception] = []

    def score() -> None:
        for batch_id in new:
            for _ in range(50):
                try:
                    swept.commit(batch_id)
                except CommitFailedError:
                    # The scoring job also retries after a conflict.
                    continue
                except Exception as error:  # noqa: BLE001  # handed to the test
                    failures.append(error)
                break

    scoring = threading.Thread(target=score)
    scoring.start()
    removed = [history(swept).remove([batch_id]) for batch_id in old]
    scoring.join(120)
    assert failures == []
    assert removed == [1] * COMMITS
    assert swept.in_newest_version() == set(new)


def test_second_removal_commits_nothing(swept: SweptModel) -> None:
    """A repeated sweep does not add a version to the table."""
    gone, kept = swept.batch_id(), swept.batch_id()
    for batch_id in (gone, kept):
        swept.commit(batch_id)
    assert history(swept).remove([gone]) == 1
    before = deltalake.DeltaTable(swept.table, storage_options=swept.options).version()
    assert (history(swept).remove([gone]), history(swept).remove([])) == (0, 0)
    assert deltalake.DeltaTable(swept.table, storage_options=swept.options).version() == before


def test_each_call_gets_new_credentials(swept: SweptModel) -> None:
    """A sweep can delete for hours, so the credentials of its start may have expired."""
    kept = swept.batch_id()
    swept.commit(kept)
    asked: list[dict[str, str]] = []

    def options() -> dict[str, str]:
        asked.append(swept.options)
        return asked[-1]

    table = DeltaHistory(swept.platform.settings.data_bucket, swept.name, options)
    assert asked == []
    table.exists()
    table.remove([swept.batch_id()])
    table.removed_files(longer_than=timedelta(days=7))
    assert len(asked) == 3


def test_delta_history_exists_after_the_first_commit(swept: SweptModel) -> None:
    """Before the first scored batch there is no table."""
    assert not history(swept).exists()
    swept.commit(swept.batch_id())
    assert history(swept).exists()


def test_removal_gives_up_on_a_busy_table(swept: SweptModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the time spent and asks to run the sweep again."""
    batch_id = swept.batch_id()
    swept.commit(batch_id)

    def overtaken(*_: Any) -> None:
        raise CommitFailedError("a concurrent transaction")

    monkeypatch.setattr(deltalake.DeltaTable, "delete", overtaken)
    with pytest.raises(DeltaRemovalError, match=r"for 1 s.*Run the sweep again"):
        history(swept, patience_seconds=1).remove([batch_id])
