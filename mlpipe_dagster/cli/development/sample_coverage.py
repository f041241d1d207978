"""Checks whether a project's sample data has the files that trials of its models read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mlpipe_dagster.cli.development.function_faults import ProjectFault
from model_declaration.declaration import ModelDeclaration
from model_declaration.inputs_document import model_inputs
from model_declaration.project import Project
from model_declaration.sample_data import SampleDataError, sample_data_folder
from prediction_contract.errors import ContractError
from prediction_contract.jobs.sample_queries import with_sample_queries
from prediction_contract.jobs.source_keys import SourceKeys
from prediction_contract.naming.batch import Partition


class SampleCoverage:
    """The partitions of one model that a folder of sample data covers.

    Args:
        declaration: The model's declaration.
        folder: A folder laid out like the data bucket.

    Raises:
        SampleQueryError: The result of a query is missing.
    """

    def __init__(self, declaration: ModelDeclaration, folder: Path) -> None:
        self._declaration = declaration
        found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        inputs = with_sample_queries(model_inputs(declaration), found)
        self._start = Partition(declaration.partitions.start)
        # Sample data is one folder, even if sources are in several buckets.
        sources = [replace(source, bucket=None) for source in inputs.sources]
        self._keys = SourceKeys(sources, found, self._start.kind)

    def newest(self) -> str | None:
        """Return the newest partition for which all sources have data; None if there is none."""
        newest = self._keys.newest(first=self._start, end=self._declaration.partitions.end)
        return newest or (None if self._keys.missing_sources(self._start) else str(self._start))

    def with_later_data(self) -> str | None:
        """Return the partition before the newest if it has data, else the newest; None if none has data."""
        newest = self.newest()
        before = None if newest is None else str(Partition(newest).earlier(1))
        return (
            newest if before is None or before < self._start or self._keys.missing_sources(before) else before
        )

    def faults(self, where: str) -> Iterator[ProjectFault]:
        """Yield a fault if the model cannot be tried."""
        name = self._declaration.name
        if self.newest() is None:
            lacking = ", ".join(self._keys.missing_sources(self._start))
            yield ProjectFault(
                where=where,
                what=f"The sample data has no partition of {name} with data of every source; the first one "
                f"lacks {lacking}",
                remedy="Make the generator yield all files of one partition",
                model=name,
            )


def sample_faults(project: Project, declarations: Iterable[ModelDeclaration]) -> Iterator[ProjectFault]:
    """Yield faults of a project's sample data; none if the project has no sample data."""
    if project.sample_data is None:
        return
    where = f"{project.package_folder} ({project.sample_data})"
    try:
        folder = sample_data_folder(project)
    except SampleDataError as error:
        yield ProjectFault(where=where, what=error.what, remedy=error.remedy)
        return
    for declaration in declarations:
        try:
            yield from SampleCoverage(declaration, folder).faults(where)
        except ContractError as error:
            yield ProjectFault(where=where, what=error.what, remedy=error.remedy, model=declaration.name)
