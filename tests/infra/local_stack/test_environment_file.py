"""Shells and python-dotenv read the same values from the environment file, and other lines are kept."""

from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.local.stack.environment_file import read_environment_file, write_environment_file
from infra.local.supervision.stack_state import StackError

if TYPE_CHECKING:
    from pathlib import Path

CHARACTERS = st.sampled_from(" ab'\"\\$`{}#=&;!*?~%()|<>é/:\n\t")
PRINT_VALUE = "import os; print(os.environ['VALUE'], end='')"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(CHARACTERS, max_size=8))
def test_shell_and_dotenv_read_written_value(tmp_path: Path, value: str) -> None:
    """A value reads back unchanged in all three readers, or is refused when it is written."""
    path = tmp_path / ".env"
    try:
        write_environment_file(path, {"VALUE": value})
    except StackError:
        assert set(value) & set("'\\$\n\t"), "refused without need"
        return
    assert read_environment_file(path) == {"VALUE": value}
    assert dotenv_values(path) == {"VALUE": value}
    shell = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; "$2" -S -c "$3"', "sh", str(path), sys.executable, PRINT_VALUE],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert shell.stdout == value


def test_lines_outside_the_block_are_kept(tmp_path: Path) -> None:
    """A second write replaces only the block, in place."""
    path = tmp_path / ".env"
    path.write_text("MINE=1\n")
    write_environment_file(path, {"OLD": "x"})
    with path.open("a") as stream:
        stream.write("ALSO_MINE=2\n")
    write_environment_file(path, {"NEW": "it's"})
    assert dotenv_values(path) == {"MINE": "1", "NEW": "it's", "ALSO_MINE": "2"}
    assert read_environment_file(path) == {"NEW": "it's"}


def test_file_is_readable_only_by_its_owner(tmp_path: Path) -> None:
    """The file holds credentials, so its mode becomes 0600 even if it was wider before."""
    path = tmp_path / ".env"
    path.write_text("")
    path.chmod(0o644)
    write_environment_file(path, {"VALUE": "x"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [".env"]


def test_incomplete_block_is_refused(tmp_path: Path) -> None:
    """A file with only one of the two enclosing lines is refused and left unchanged."""
    path = tmp_path / ".env"
    write_environment_file(path, {"VALUE": "x"})
    half = "\n".join(path.read_text().splitlines()[:-1])
    path.write_text(half)
    with pytest.raises(StackError, match="only one of the two lines"):
        write_environment_file(path, {"VALUE": "y"})
    assert path.read_text() == half


@pytest.mark.parametrize("name", ["lower", "1A", "A B", "A;rm", ""])
def test_invalid_variable_name_is_refused(tmp_path: Path, name: str) -> None:
    """Names may hold only capitals, digits and underscores, so a shell cannot run them."""
    with pytest.raises(StackError, match="cannot be a variable"):
        write_environment_file(tmp_path / ".env", {name: "x"})
