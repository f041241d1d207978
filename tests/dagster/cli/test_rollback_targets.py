"""What `mlpipe rollback` goes to when it is told no batch is there whole, however often one rolls back."""

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


def test_after_a_rollback_the_next_target_is_kept(platform: Platform, model: ModelDeclaration) -> None:
    """The sweep leaves it beside the withdrawn batch; what has left is never named as a target."""
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
