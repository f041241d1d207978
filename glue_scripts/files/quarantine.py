"""The refused rows on S3: one line of JSON each, with its reason, part and line number."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any

from prediction_contract.manifests.load_report import QuarantineReport
from prediction_contract.naming.s3_layout import quarantine_key
from prediction_contract.text.canonical_json import canonical_bytes

if TYPE_CHECKING:
    from glue_scripts.files.part_lines import RefusedLine
    from glue_scripts.files.survey import Survey
    from prediction_contract.jobs.job_arguments import LoadArguments


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
        s3.put_object(Bucket=arguments.bucket, Key=key, Body=_file(part.key, part.lines))
        keys.append(key)
    return QuarantineReport(rows=survey.refused, reasons=survey.reasons, keys=tuple(keys))


def _file(part: str, lines: list[RefusedLine]) -> bytes:
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
