"""How a job's arguments become text and come back, by the fields of a dataclass.

An argument is `--name value`, both on Glue and as a container argument of SageMaker; the name is that of the
field. Arguments of other names, which Glue adds, are left alone. None is not passed at all.
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
    """Return the parser of a text of one form, which raises `ValueError` saying that it is not `what`."""

    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"it is not {what}")
        return text

    return parse


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the parser of an integer, which raises `ValueError` if it lies outside of the bounds."""
    highest = LARGEST_NUMBER if most is None else most
    allowed = f"{least}" if most is None else f"{least} to {most}"

    def parse(text: str) -> int:
        if re.fullmatch("0|[1-9][0-9]{0,18}", text) and least <= int(text) <= highest:
            return int(text)
        raise ValueError(f"it is not an integer from {allowed}")

    return parse


def argument(parse: Callable[[str], Any], default: Any = MISSING) -> Any:
    """Declare an argument by the function that parses its text."""
    return field(default=default, metadata={"parse": parse})


class JobArguments:
    """Shared by all jobs: building and parsing by the fields of the job's own class."""

    def __post_init__(self) -> None:
        texts = self._texts()
        for declared in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if declared.name in texts:
                self._parsed(declared.name, texts[declared.name])
            elif declared.default is not None:
                refuse_argument(declared.name, "it is missing")
        self._require_consistency()

    def _require_consistency(self) -> None:
        """Refuse arguments that contradict one another; a job whose arguments can says how."""

    def glue_arguments(self) -> dict[str, str]:
        """Return the arguments as Glue's StartJobRun takes them: `{"--model": "churn", ...}`."""
        return {f"--{name}": text for name, text in self._texts().items()}

    def container_arguments(self) -> list[str]:
        """Return the arguments as a SageMaker container takes them: `["--model", "churn", ...]`.

        Raises:
            JobArgumentsError: SageMaker would refuse them: more than 100, or one of more than 256 characters.
        """
        arguments = [text for pair in self.glue_arguments().items() for text in pair]
        if len(arguments) > MAX_CONTAINER_ARGUMENTS:
            refuse_argument("arguments", f"they are {len(arguments)} of {MAX_CONTAINER_ARGUMENTS}")
        for name, text in self._texts().items():
            if len(text) > MAX_CONTAINER_ARGUMENT_CHARACTERS:
                refuse_argument(name, f"it has {len(text)} characters of {MAX_CONTAINER_ARGUMENT_CHARACTERS}")
        return arguments

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Self:
        """Return the arguments of a job's command line; arguments that are not this job's are left alone.

        Args:
            argv: The command line without the program, as `sys.argv[1:]`.

        Raises:
            JobArgumentsError: One is missing, stands without a value, or has another form.
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
            refuse_argument(name, "it begins with '-', and would be taken for the next argument's name")
        try:
            return declared.metadata["parse"](text)
        except ContractError as error:
            refuse_argument(name, error.what, error)
        except ValueError as error:
            refuse_argument(name, str(error), error)


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would end the process."""

    def error(self, message: str) -> Never:
        raise JobArgumentsError(
            f"The command line cannot be parsed: {message[:200]}", remedy="Start the job through its client"
        )


def refuse_argument(name: str, what: str, cause: Exception | None = None) -> Never:
    """Refuse a job's argument.

    Raises:
        JobArgumentsError: Always; it says what is wrong with the argument of this name.
    """
    raise JobArgumentsError(
        f"Job argument {name} is wrong: {what}", remedy=f"Start the job again with a valid --{name}"
    ) from cause
