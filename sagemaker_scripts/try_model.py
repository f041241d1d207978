"""The process that tries a model: `python -m sagemaker_scripts.try_model <folder of the request>`.

Output of the model's functions goes to the terminal; the answer is written to a file in the folder.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from prediction_contract.errors import ContractError
from sagemaker_scripts.trials.leak_check import leaks
from sagemaker_scripts.trials.model_trial import ModelTrial
from sagemaker_scripts.trials.own_traceback import own_lines
from sagemaker_scripts.trials.trial_request import TrialRequest

ANSWER_FILE = "answer.json"


def answer(request: TrialRequest) -> dict[str, Any]:
    """Return the answer to a request; an error becomes an answer with the project's lines that led to it."""
    try:
        return leaks(request) if request.action == "leaks" else ModelTrial(request).run()
    except ContractError as error:
        told = {"what": error.what, "remedy": error.remedy}
        return {"error": {**told, "lines": own_lines(error, request.source_folder)}}


def main(arguments: list[str]) -> int:
    """Answer the request in a folder; return 1 if the model could not be tried."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    folder = Path(arguments[0])
    found = answer(TrialRequest.read(folder))
    (folder / ANSWER_FILE).write_text(json.dumps(found), encoding="utf-8")
    return 1 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
