"""Checks every line of a batch and finds duplicate keys, before the first row is written."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glue_scripts.aws_clients import client
from glue_scripts.errors import BatchFaultError
from glue_scripts.files.part_lines import PartSource, RefusedLine, read_rows
from glue_scripts.progress import COUNTED_ROWS, count_rows
from prediction_contract.manifests.load_report import QuarantineReport
from prediction_contract.naming.s3_layout import quarantine_key
from prediction_contract.rows.checksums import RowTally, batch_checksum
from prediction_contract.rows.key_digests import KeyDigests, key_digest
from prediction_contract.text.canonical_json import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from glue_scripts.engine import Engine
    from glue_scripts.files.delivered_batch import DeliveredBatch
    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance

NOTHING = RowTally(rows=0, checksum=0)
# The most bytes of refused lines kept per batch; later lines are cut to what identifies them.
_BYTES_KEPT = 64 * 1024 * 1024
_LEAST_CONTENT = 256
# A refused batch's quarantine shows at least this many of its refused lines, if it has them.
_LEAST_KEPT = 20
# Even once a batch is refused, counting goes on to this many lines, so that the report of most is complete.
_LEAST_COUNTED = 10_000
_LEAST_COUNTED_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartSurvey:
    """What one part holds.

    Attributes:
        key: The part's key.
        accepted: The rows that both stores can hold.
        refused: The other lines.
        reasons: The number of refused lines by reason.
        lines: The refused lines that are kept for the quarantine.
        key_digests: The digests of the accepted keys, concatenated; empty in the survey of the batch.
    """

    key: str
    accepted: RowTally
    refused: RowTally
    reasons: Counter[str]
    lines: list[RefusedLine]
    key_digests: bytes

    @property
    def read(self) -> RowTally:
        """All lines."""
        return self.accepted.plus(self.refused)


@dataclass(frozen=True, slots=True)
class PartTask:
    """A part to survey.

    Attributes:
        source: The part.
        lines_kept: The maximum number of refused lines to keep. The batch is refused if it has this many.
        bytes_kept: The size of their content to keep. Lines beyond it are cut short.
        most_refused: The number of refused lines at which reading stops; fewer if the lines are long, but
            not below `lines_kept`.
    """

    source: PartSource
    lines_kept: int
    bytes_kept: int = _BYTES_KEPT
    most_refused: int = _LEAST_COUNTED


@dataclass(frozen=True, slots=True)
class Survey:
    """What the whole batch holds, part by part in the manifest's order.

    Attributes:
        parts: The surveys of the parts. If too many lines are refused, the remaining parts are left out.
        sources: All parts. Reading them refuses rows with duplicate keys.
    """

    parts: list[PartSurvey]
    sources: list[PartSource]

    @property
    def read(self) -> RowTally:
        """All lines that were read."""
        return self.accepted.plus(self.refused)

    @property
    def accepted(self) -> RowTally:
        """All accepted rows."""
        return _sum(part.accepted for part in self.parts)

    @property
    def refused(self) -> RowTally:
        """All refused lines."""
        return _sum(part.refused for part in self.parts)

    @property
    def reasons(self) -> dict[str, int]:
        """Refused lines by reason."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total += part.reasons
        return dict(sorted(total.items()))

    @property
    def refused_checksums(self) -> list[int]:
        """The distinct checksums of the kept refused lines, sorted."""
        return sorted({line.checksum for part in self.parts for line in part.lines})


class TooManyRefusedError(BatchFaultError):
    """More rows were refused than the model tolerates.

    Args:
        what: As in `ContractError`.
        survey: The batch's survey.
        model: As in `ContractError`.
        batch_id: As in `ContractError`.
    """

    def __init__(self, what: str, *, survey: Survey, model: str, batch_id: str) -> None:
        self.survey = survey
        remedy = (
            "Look at the quarantined rows, correct the model or its data, and score a new batch"
            if survey.refused.rows
            else "Find out why the model wrote no row, and score a new batch"
        )
        super().__init__(what, remedy=remedy, model=model, batch_id=batch_id)


def survey_part(task: PartTask) -> PartSurvey:
    """Survey one part.

    Raises:
        BatchFaultError: As `part_lines.read_rows`.
    """
    rows = checksum = refused = refused_sum = refused_bytes = 0
    reasons: Counter[str] = Counter()
    lines: list[RefusedLine] = []
    digests, room = bytearray(), task.bytes_kept
    for row in read_rows(task.source, client("s3")):
        if isinstance(row, RefusedLine):
            refused += 1
            refused_sum += row.checksum
            reasons[row.reason] += 1
            if len(lines) < task.lines_kept:
                lines.append(row if len(row.content) <= room else row.cut_to(_LEAST_CONTENT))
                room = max(room - len(lines[-1].content), 0)
            refused_bytes += len(row.content)
            if refused >= task.lines_kept and (
                refused >= task.most_refused or refused_bytes >= _LEAST_COUNTED_BYTES
            ):
                break
        else:
            rows += 1
            checksum += row.checksum
            digests += key_digest(row.key)
            if not rows % COUNTED_ROWS:
                count_rows(COUNTED_ROWS)
    count_rows(rows % COUNTED_ROWS)
    return PartSurvey(
        key=task.source.part.key,
        accepted=RowTally(rows=rows, checksum=checksum),
        refused=RowTally(rows=refused, checksum=refused_sum),
        reasons=reasons,
        lines=lines,
        key_digests=bytes(digests),
    )


def survey_batch(batch: DeliveredBatch, engine: Engine, tolerance: QuarantineTolerance) -> Survey:
    """Survey all parts of a batch.

    Args:
        batch: The batch.
        engine: Runs the parts.
        tolerance: How many rows may be refused.

    Raises:
        BatchFaultError: A part is faulty, or the rows do not have the manifest's checksum.
        TooManyRefusedError: More rows than allowed were refused, or no row was accepted.
    """
    promised = batch.expected.rows
    kept = max(tolerance.allowed(promised) + 1, _LEAST_KEPT)
    duplicates: frozenset[bytes] = frozenset()
    with tempfile.TemporaryDirectory(prefix="mlpipe-keys-") as folder:
        digests = KeyDigests(Path(folder))
        survey = _surveyed(engine, batch.sources, kept, digests.add)
        if survey.read.rows == promised:
            # Each has at least two rows, so this many are enough to refuse the batch.
            duplicates = digests.duplicates(kept)
    if duplicates:
        sources = [replace(source, duplicates=duplicates) for source in batch.sources]
        survey = _surveyed(engine, sources, kept, lambda _digests: None)
    is_whole = survey.read.rows == promised
    if is_whole:
        _check_checksum(batch, survey)
    fault = tolerance.fault(promised, survey.refused.rows)
    if fault is not None:
        reasons = ", ".join(f"{count} {reason}" for reason, count in survey.reasons.items())
        # The search for duplicate keys stops once they refuse the batch.
        is_all = is_whole and (len(duplicates) < kept or not survey.accepted.rows)
        least = "" if is_all else "at least "
        raise TooManyRefusedError(
            f"{least}{fault}: {reasons}" if reasons else fault,
            survey=survey,
            model=batch.manifest.model,
            batch_id=batch.manifest.batch_id,
        )
    return survey


def _surveyed(
    engine: Engine, sources: list[PartSource], lines_kept: int, take: Callable[[bytes], None]
) -> Survey:
    """Return the parts' surveys, with the refused lines that the batch keeps; hand their digests over.

    Stops at the part that makes the refused lines too many.
    """
    bytes_kept = _BYTES_KEPT // max(len(sources), 1)
    most_refused = max(lines_kept, _LEAST_COUNTED)
    tasks = [PartTask(source, lines_kept, bytes_kept, most_refused) for source in sources]
    parts: list[PartSurvey] = []
    room = lines_kept
    refused = 0
    for task, part in zip(tasks, engine.run(survey_part, tasks), strict=True):
        take(part.key_digests)
        lines = part.lines[:room]
        room -= len(lines)
        parts.append(replace(part, lines=lines, key_digests=b""))
        refused += part.refused.rows
        if refused >= task.most_refused or part.read.rows < task.source.part.rows:
            break
    return Survey(parts, sources)


def _check_checksum(batch: DeliveredBatch, survey: Survey) -> None:
    manifest, found = batch.manifest, batch_checksum([survey.read.checksum])
    if found != manifest.checksum:
        raise BatchFaultError(
            f"The parts' rows have checksum {found}, but the manifest declares {manifest.checksum}",
            remedy="Deliver a manifest of the rows that were written, or score a new batch",
            model=manifest.model,
            batch_id=manifest.batch_id,
        )


def _sum(tallies: Iterable[RowTally]) -> RowTally:
    total = NOTHING
    for tally in tallies:
        total = total.plus(tally)
    return total


def write_quarantine(s3: Any, survey: Survey, arguments: LoadArguments) -> QuarantineReport:
    """Write a batch's refused lines to S3, one file for each part that has any; return the summary.

    Each line is `{"part", "line", "reason", "what", "row_checksum", "content", "is_cut"}`: the part's key,
    the line's number from 1, one of `row_contract.REASONS`, an explanation, the checksum as decimal text, the
    refused line and whether it was cut. Bytes that are not UTF-8 are escaped. The line is cut after 64 KiB,
    or after 256 bytes once a batch has more than 64 MiB of refused lines.
    """
    keys = []
    for number, part in enumerate(survey.parts):
        if not part.lines:
            continue
        key = quarantine_key(arguments.model, arguments.batch_id, arguments.load_attempt, number)
        s3.put_object(Bucket=arguments.bucket, Key=key, Body=_quarantine_file(part.key, part.lines))
        keys.append(key)
    return QuarantineReport(rows=survey.refused, reasons=survey.reasons, keys=tuple(keys))


def _quarantine_file(part: str, lines: list[RefusedLine]) -> bytes:
    buffer = io.BytesIO()
    # No time in the header, so that the same rows give the same file.
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        for line in lines:
            document = {
                "part": part,
                "line": line.number,
                "reason": line.reason,
                "what": line.what.encode(errors="backslashreplace").decode(),
                "row_checksum": str(line.checksum),
                "content": line.content.decode(errors="backslashreplace"),
                "is_cut": line.is_cut,
            }
            file.write(canonical_bytes(document) + b"\n")
    return buffer.getvalue()
