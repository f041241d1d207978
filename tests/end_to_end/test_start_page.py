"""Each command of docs/start.md works and shows the output on the page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dotenv import dotenv_values

from tests.installed_platform import ROOT, InstalledPlatform, install_platform
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs" / "start.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The fixture installs the wheel and puts the project on the path.
_INSTALLATION = ("python3 -m venv", ". acme-venv", "pip install")
_EDITED = Path("src/acme/defs/expected_orders/predict.py")
_SECONDS = 240


class Newcomer:
    """A person with two terminals.

    Args:
        platform: The installed wheel.
        folder: The folder of the first command.
    """

    def __init__(self, platform: InstalledPlatform, folder: Path) -> None:
        self._platform = platform
        self._folder = folder
        self._log = folder / "dev.log"
        self._dagster: subprocess.Popen[bytes] | None = None
        self._has_loaded_variables = False

    def type(self, command: str) -> str:
        """Run a command that must succeed, and return its output."""
        if command.startswith("cd "):
            self._folder /= command.removeprefix("cd ")
            return ""
        if command == "mlpipe dev":
            return self._start_dagster()
        if command.startswith("set -a"):
            self._has_loaded_variables = True
            return ""
        if command == "mlpipe down":
            self.stop_dagster()
        done = self._platform.run(self._folder, "/bin/bash", "-c", command, **self._variables())
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
        # Dagster's commands find the stack's instance, which collects no usage statistics.
        assert "Telemetry:" not in done.stdout, command
        return done.stdout

    def json(self, command: str) -> Any:
        """Return the JSON output of an `mlpipe` command."""
        return json.loads(self.type(f"{command} --json 2>/dev/null"))

    def edit(self, diff: str) -> None:
        """Replace the one line that a diff removes with the line it adds."""
        old, new = (line[1:] for line in diff.splitlines())
        path = self._folder / _EDITED
        text = path.read_text(encoding="utf-8")
        assert text.count(f"{old}\n") == 1
        path.write_text(text.replace(old, new), encoding="utf-8")

    def stop_dagster(self) -> None:
        """End `mlpipe dev` with Ctrl-C."""
        if self._dagster is not None and self._dagster.poll() is None:
            os.killpg(self._dagster.pid, signal.SIGINT)
            self._dagster.wait(60)

    def leave(self) -> None:
        """Stop Dagster and the stack."""
        self.stop_dagster()
        if (self._folder / ".env").exists():
            self.type("mlpipe down")

    def _start_dagster(self) -> str:
        program = str(self._platform.environment / "bin" / "mlpipe")
        with self._log.open("wb") as stream:
            self._dagster = subprocess.Popen(
                [program, "dev"],
                cwd=self._folder,
                env=self._platform.variables(**self._variables()),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        process = self._dagster
        wait_until(
            lambda: "Ctrl-C stops Dagster" in self._log.read_text() or process.poll() is not None,
            seconds=_SECONDS,
            what="mlpipe dev is ready",
        )
        assert process.poll() is None, self._log.read_text()
        return self._log.read_text()

    def _variables(self) -> dict[str, str]:
        """Return the variables that the newcomer's shell adds to those of this process."""
        cache = {name: os.environ[name] for name in ("MLPIPE_CACHE",) if name in os.environ}
        loaded = dotenv_values(self._folder / ".env") if self._has_loaded_variables else {}
        stack = {name: value or "" for name, value in loaded.items()}
        return {**cache, **stack, "PYTHONPATH": str(self._folder / "src")}


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """Install the wheel in a new environment, and prepare an empty folder."""
    for name in ("platform", "work"):
        (tmp_path / name).mkdir()
    person = Newcomer(install_platform(tmp_path / "platform"), tmp_path / "work")
    try:
        yield person
    finally:
        person.leave()


def columns(table: str, *names: str) -> list[tuple[str, ...]]:
    """Return columns of a printed table by name; columns are two spaces apart."""
    heading, *rows = table.splitlines()
    starts = [found.start() for found in re.finditer(r"(?:^|(?<=  ))\S", heading)]
    spans = {
        heading[start:end].strip(): slice(start, end)
        for start, end in zip(starts, [*starts[1:], None], strict=True)
    }
    return [tuple(row[spans[name]].strip() for name in names) for row in rows]


def rows_in(text: str) -> list[dict[str, Any]]:
    """Return the rows that a text has as JSON, one per line."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def without_figures(text: str) -> list[str]:
    """Return a text's lines with figures replaced by one sign and whitespace collapsed."""
    return [re.sub(r"\s+", " ", re.sub(r"\d[\d.:]*", "#", line)).strip() for line in text.splitlines()]


def require_shown(newcomer: Newcomer, shown: str, output: str) -> None:
    """Compare the page with the output, waiting for states that sensors bring about."""
    heading = shown.splitlines()[0]
    if "release_state" in heading:
        expected = columns(shown, "partition", "load_state", "release_state")
        wait_until(
            lambda: (
                expected
                == [
                    (batch["partition"], batch["load_state"], batch["release_state"])
                    for batch in newcomer.json("mlpipe batches expected_orders")["batches"]
                ]
            ),
            seconds=_SECONDS,
            what=f"batches are {expected}",
        )
    elif "champion" in heading:
        expected = columns(shown, "version", "state")
        wait_until(
            lambda: (
                expected
                == [
                    (str(version["version"]), version["state"])
                    for version in newcomer.json("mlpipe models expected_orders")["versions"]
                ]
            ),
            seconds=_SECONDS,
            what=f"versions are {expected}",
        )
    else:
        printed_rows = rows_in(output)
        # The last digits of a trained model's predictions differ between processors.
        assert [row for row in rows_in(shown) if pytest.approx(row) not in printed_rows] == []
        printed = without_figures(output)
        assert [line for line in without_figures(shown) if line and line not in printed] == []


def test_columns_with_empty_cells_are_parsed() -> None:
    """An empty first cell of a printed table does not shift the others."""
    table = "live  batch_id  release_state\n      7         superseded\n*     8         live\n"
    assert columns(table, "live", "release_state") == [("", "superseded"), ("*", "live")]


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_start_page_works_as_written(newcomer: Newcomer) -> None:
    """Rows, states and the API's response match the page, and the rollback changes the response."""
    output, asked = "", ""
    for kind, text in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "console":
            commands = [line for line in text.splitlines() if not line.startswith(_INSTALLATION)]
            output = "".join(newcomer.type(command) for command in commands)
            asked = next((line for line in commands if line.startswith("curl ")), asked)
            if any(line.startswith("mlpipe rollback") for line in commands):
                answer = json.loads(newcomer.type(f"{asked} 2>/dev/null"))
                assert answer["provenance"]["partition"] == "2024-03-25"
        elif kind == "diff":
            newcomer.edit(text)
        elif kind == "json":
            shown, answer = json.loads(text), json.loads(output[output.index("{") :])
            assert answer["prediction"] == shown["prediction"]
            assert answer["provenance"].keys() == shown["provenance"].keys()
            assert answer["provenance"]["partition"] == shown["provenance"]["partition"]
        elif not kind:
            require_shown(newcomer, text, output)
    assert asked
