"""`mlpipe rollback` without a batch id always goes to a batch that is still complete in the stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlpipe_dagster.publication.publisher import PublishingError
from tests.dagster.loaded_model import COLUMNS, LoadedModel
from tests.dagster.publication.test_publication_interleavings import person, publisher
from tests.dagster.small_model import declaration
from tests.dagster.swept_model import GONE, WHOLE, SweptModel

if TYPE_CHECKING:
    from mlpipe_dagster.resources.platform import Platform
    from model_declaration.declaration import ModelDeclaration

pytestmark = pytest.mark.stack


def test_next_target_after_a_rollback_is_kept(platform: Platform, model: ModelDeclaration) -> None:
    """Retention keeps it beside the withdrawn batch, and a batch that is gone is never a target."""
    swept = SweptModel(LoadedModel(platform, declaration(model.name, columns=COLUMNS)))
    oldest, older, former, withdrawn = swept.released(4)
    assert publisher(swept).roll_back(person()).live_batch_id == former
    swept.project()
    assert [batch.record.batch_id for batch in swept.sweep().retired] == [oldest]
    assert swept.holds(oldest) == GONE
    assert [swept.holds(each) for each in (older, former, withdrawn)] == [WHOLE] * 3
    assert publisher(swept).roll_back(person()).live_batch_id == older
    with pytest.raises(PublishingError, match="still in the stores"):
        publisher(swept).roll_back(person())
