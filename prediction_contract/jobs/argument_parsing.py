"""Conversion between a dataclass and the command line of a job.

Each field is an argument `--name value`, in Glue and in SageMaker containers. A field that is None is left
out. Unknown arguments are ignored, because Glue adds some.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, field, fields
from decimal import Decimal
from typing import Any, Never, Self

from prediction_contract.errors import ContractError, JobArgumentsError
from prediction_contract.limits import MAX_CONTAINER_ARGUMENT_CHARACTERS, MAX_CONTAINER_ARGUMENTS
from prediction_contract.manifests.manifest_reader import LARGEST_NUMBER


def matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    """Return a parser of texts that match a pattern. Other texts raise `ValueError`: `it is not <what>`."""

    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"it is not {what}")
        return text

    return parse


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a parser of integers within bounds. It raises `ValueError` for other texts."""
    highest = LARGEST_NUMBER if most is None else most
    allowed = f"{least}" if most is None else f"{least} to {most}"

    def parse(text: str) -> int:
        if re.fullmatch("0|[1-9][0-9]{0,18}", text) and least <= int(text) <= highest:
            return int(text)
        raise ValueError(f"it is not an integer from {allowed}")

    return parse


def argument(parse: Callable[[str], Any], default: Any = MISSING) -> Any:
    """Declare an argument with the function that parses its text."""
    return field(default=default, metadata={"parse": parse})


class JobArguments:
    """Base of all jobs' arguments. A subclass is a dataclass whose fields are declared by `argument`."""

    def __post_init__(self) -> None:
        texts = self._texts()
        for declared in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if declared.name in texts:
                self._parsed(declared.name, texts[declared.name])
            elif declared.default is not None:
                refuse_argument(declared.name, "it is missing")
        self._require_consistency()

    def _require_consistency(self) -> None:
        """Refuse arguments that contradict each other. Subclasses override it."""

    def glue_arguments(self) -> dict[str, str]:
        """Return the arguments for Glue's StartJobRun: `{"--model": "churn", ...}`."""
        return {f"--{name}": text for name, text in self._texts().items()}

    def container_arguments(self) -> list[str]:
        """Return the arguments for a SageMaker container: `["--model", "churn", ...]`.

        Raises:
            JobArgumentsError: There are more than 100, or one has more than 256 characters.
        """
        arguments = [text for pair in self.glue_arguments().items() for text in pair]
        if len(arguments) > MAX_CONTAINER_ARGUMENTS:
            refuse_argument(
                "arguments", f"there are {len(arguments)}; at most {MAX_CONTAINER_ARGUMENTS} are allowed"
            )
        for name, text in self._texts().items():
            if len(text) > MAX_CONTAINER_ARGUMENT_CHARACTERS:
                refuse_argument(name, f"it has {len(text)} characters of {MAX_CONTAINER_ARGUMENT_CHARACTERS}")
        return arguments

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Self:
        """Return the arguments in a job's command line. Unknown arguments are ignored.

        Args:
            argv: The command line without the program, as in `sys.argv[1:]`.

        Raises:
            JobArgumentsError: An argument is missing, has no value, or is invalid.
        """
        parser = _Parser(add_help=False, allow_abbrev=False)
        for declared in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            parser.add_argument(f"--{declared.name}", dest=declared.name)
        given = vars(parser.parse_known_args(list(argv))[0])
        values: dict[str, Any] = {}
        for declared in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            text = given[declared.name]
            if text is not None:
                values[declared.name] = cls._parsed(declared.name, text)
            elif declared.default is MISSING:
                refuse_argument(declared.name, "it is missing")
        return cls(**values)

    def _texts(self) -> dict[str, str]:
        values = {
            declared.name: getattr(self, declared.name)
            for declared in fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
        }
        return {
            name: format(value, "f") if isinstance(value, Decimal) else str(value)
            for name, value in values.items()
            if value is not None
        }

    @classmethod
    def _parsed(cls, name: str, text: str) -> Any:
        declared = next(
            declared
            for declared in fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass
            if declared.name == name
        )
        if text.startswith("-"):
            refuse_argument(name, "it begins with '-', like the name of an argument")
        try:
            return declared.metadata["parse"](text)
        except ContractError as error:
            refuse_argument(name, error.what, error)
        except ValueError as error:
            refuse_argument(name, str(error), error)


class _Parser(argparse.ArgumentParser):
    """Raises an error where argparse would end the process."""

    def error(self, message: str) -> Never:
        raise JobArgumentsError(
            f"The command line is invalid: {message[:200]}", remedy="Start the job through its client"
        )


def refuse_argument(name: str, what: str, cause: Exception | None = None) -> Never:
    """Refuse a job's argument.

    Raises:
        JobArgumentsError: Always. The message names the argument and the fault.
    """
    raise JobArgumentsError(
        f"Job argument {name} is wrong: {what}", remedy=f"Start the job again with a valid --{name}"
    ) from cause
