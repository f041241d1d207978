"""The process that tries a model: `python -m sagemaker_scripts.try_model <folder of the request>`.

Output of the model's functions goes to the terminal; the answer is written to a file in the folder.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

from prediction_contract.errors import ContractError
from sagemaker_scripts.trials.leak_check import leaks
from sagemaker_scripts.trials.model_trial import ModelTrial
from sagemaker_scripts.trials.trial_request import TrialRequest

ANSWER_FILE = "answer.json"
_MOST_LINES = 20


def answer(request: TrialRequest) -> dict[str, Any]:
    """Return the answer to a request; an error becomes an answer with the project's lines that led to it."""
    try:
        return leaks(request) if request.action == "leaks" else ModelTrial(request).run()
    except ContractError as error:
        fault = {"what": error.what, "remedy": error.remedy}
        return {"error": {**fault, "lines": project_lines(error, request.source_folder)}}


def project_lines(error: BaseException, folder: Path) -> list[str]:
    """Return file, line, function and text of the project's frames in an error and its causes.

    The innermost call comes last, as in a traceback.

    Args:
        error: The error.
        folder: The project's source folder; frames of other files are left out.
    """
    lines: list[str] = []
    found: BaseException | None = error
    while found is not None:
        for frame in traceback.extract_tb(found.__traceback__):
            path = Path(frame.filename)
            if path.is_relative_to(folder):
                shown = path.relative_to(folder)
                line = f"{shown}:{frame.lineno} in {frame.name}: {frame.line}"
                if line not in lines:
                    lines.append(line)
        found = found.__cause__ or found.__context__
    return lines[-_MOST_LINES:]


def main(arguments: list[str]) -> int:
    """Answer the request in a folder; return 1 if the model could not be tried."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    folder = Path(arguments[0])
    found = answer(TrialRequest.read(folder))
    (folder / ANSWER_FILE).write_text(json.dumps(found), encoding="utf-8")
    return 1 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
