"""What a batch's parts hold: every line checked and duplicate keys found, before the first row is written."""

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
# Of a batch's refused lines, so many bytes are kept in all; of lines beyond, enough to find them by.
_BYTES_KEPT = 64 * 1024 * 1024
_LEAST_CONTENT = 256
# A person who reads why a batch was refused sees so many of its refused lines, if it has them.
_LEAST_KEPT = 20
# So many refused lines are counted at least, or those of so many bytes, also of a batch that they refuse: of
# most such batches all.
_LEAST_COUNTED = 10_000
_LEAST_COUNTED_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartSurvey:
    """What one part holds.

    Attributes:
        key: The part's key.
        accepted: Its rows that both stores can hold.
        refused: Its other lines.
        reasons: Refused lines by reason.
        lines: The refused lines themselves, as many as are worth keeping.
        key_digests: The accepted keys' digests, joined; empty once the batch has them.
    """

    key: str
    accepted: RowTally
    refused: RowTally
    reasons: Counter[str]
    lines: list[RefusedLine]
    key_digests: bytes

    @property
    def read(self) -> RowTally:
        """All its lines."""
        return self.accepted.plus(self.refused)


@dataclass(frozen=True, slots=True)
class PartTask:
    """A part to survey.

    Attributes:
        source: The part.
        lines_kept: How many refused lines to keep of it; with so many the batch is refused.
        bytes_kept: How many bytes of their content.
        most_refused: How many refused lines to count, fewer long ones, if the batch is refused.
    """

    source: PartSource
    lines_kept: int
    bytes_kept: int = _BYTES_KEPT
    most_refused: int = _LEAST_COUNTED


@dataclass(frozen=True, slots=True)
class Survey:
    """What the whole batch holds, part by part in the manifest's order.

    Attributes:
        parts: By part; of a batch with too many refused lines those that were read before that was known.
        sources: All parts as they are to be read from now on: each leaves out the rows of duplicate keys.
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
        """The checksums of the refused lines, each once."""
        return sorted({line.checksum for part in self.parts for line in part.lines})


class TooManyRefusedError(BatchFaultError):
    """More rows were refused than the batch may lose.

    Args:
        what: As in `ContractError`.
        survey: What was found.
        model: As in `ContractError`.
        batch_id: As in `ContractError`.
    """

    def __init__(self, what: str, *, survey: Survey, model: str, batch_id: str) -> None:
        self.survey = survey
        remedy = (
            "Read the quarantine, correct the model or its data, and score a new batch"
            if survey.refused.rows
            else "Find out why the model wrote no row, and score a new batch"
        )
        super().__init__(what, remedy=remedy, model=model, batch_id=batch_id)


def survey_part(task: PartTask) -> PartSurvey:
    """Return what one part holds.

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
    """Return what a batch's parts hold.

    Args:
        batch: The batch.
        engine: Runs the parts.
        tolerance: How many rows may be refused.

    Raises:
        BatchFaultError: A part is at fault, or the rows are not those that the manifest promises.
        TooManyRefusedError: More rows than allowed were refused, or no row was accepted.
    """
    promised = batch.expected.rows
    kept = max(tolerance.allowed(promised) + 1, _LEAST_KEPT)
    duplicates: frozenset[bytes] = frozenset()
    with tempfile.TemporaryDirectory(prefix="mlpipe-keys-") as folder:
        digests = KeyDigests(Path(folder))
        survey = _surveyed(engine, batch.sources, kept, digests.add)
        if survey.read.rows == promised:
            # Each has two rows at least, so with this many the batch is refused, whatever the others are.
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
        # Not all duplicate keys are looked for once they refuse the batch.
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
    """Return what each part holds, with the refused lines that are kept of the batch; pass the digests on.

    It ends with the part whose refused lines are too many.
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
            f"The parts' rows have the checksum {found}, and the manifest promises {manifest.checksum}",
            remedy="Deliver a manifest of the very rows that were written, or score a new batch",
            model=manifest.model,
            batch_id=manifest.batch_id,
        )


def _sum(tallies: Iterable[RowTally]) -> RowTally:
    total = NOTHING
    for tally in tallies:
        total = total.plus(tally)
    return total


def write_quarantine(s3: Any, survey: Survey, arguments: LoadArguments) -> QuarantineReport:
    """Put the refused lines of a batch on S3, one file for each part that has any; return the summary.

    A line is `{"part", "line", "reason", "what", "row_checksum", "content", "is_cut"}`: the part's key, the
    line's number from 1, a reason of `row.REASONS`, words, the checksum as decimal text, and the line itself,
    bytes that are no UTF-8 escaped, cut after 64 KiB, or after 256 bytes
    where a batch has more than 64 MiB of them.
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
    # Without a time in its header, so that the same rows make the same file.
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
