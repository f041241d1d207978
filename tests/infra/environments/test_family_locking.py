"""A family's lock is the platform's packages and its own; a stale one is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.environments import family_locking
from infra.environments.environment_cache import EnvironmentCreationError, make_environment
from infra.environments.family_locking import lock_family, main
from infra.environments.job_environments import make_job_environments
from model_declaration.job_requirements import (
    FamilyFiles,
    RequirementsError,
    declared_families,
    family_files,
    requirements_faults,
)
from model_declaration.project import Project
from prediction_contract.jobs.job_image import JobImage, JobImageError
from tests.infra.environments.small_locks import ROOT, locked
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from pathlib import Path

MARKER = '[tool.dg.project]\nroot_module = "acme"\n[tool.mlpipe]\n'


@pytest.fixture
def family(tmp_path: Path) -> FamilyFiles:
    """A family of one package beside a platform of one."""
    platform = tmp_path / "scoring.lock"
    platform.write_text(locked("iniconfig"), encoding="utf-8")
    declared = tmp_path / "sorting.in"
    declared.write_text("sortedcontainers\n")
    return FamilyFiles("sorting", declared, tmp_path / "sorting.lock", platform)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that declares no packages yet."""
    root = tmp_path / "acme"
    for folder in ("src/acme/defs", "requirements"):
        (root / folder).mkdir(parents=True)
    (root / "src/acme/__init__.py").touch()
    (root / "pyproject.toml").write_text(MARKER)
    return Project.at(root)


def test_a_lock_holds_the_platforms_pins_and_the_familys_packages(family: FamilyFiles) -> None:
    """All with hashes and without the address of a registry; an environment can be made of it."""
    assert lock_family(family)
    text = family.lock.read_text()
    assert locked("iniconfig") in text
    assert "sortedcontainers==" in text
    assert "://" not in text
    assert family.image() == JobImage.of_lock("sorting", text.encode())
    made = make_environment(family.lock, family.lock.parent / "cache", say=print)
    assert {"iniconfig", "sortedcontainers"} <= {path.name for path in made.packages.iterdir()}


def test_locking_again_changes_nothing(family: FamilyFiles) -> None:
    """A repository that is up to date stays so, and keeps its images; nothing else is left in the folder."""
    lock_family(family)
    before = sorted(path.name for path in family.lock.parent.iterdir())
    assert not lock_family(family)
    assert sorted(path.name for path in family.lock.parent.iterdir()) == before


def test_pins_stay_until_they_are_asked_to_move(family: FamilyFiles) -> None:
    """Adding a package upgrades no other; `--upgrade` takes the newest."""
    family.declared.write_text("sortedcontainers==2.3.0\n")
    lock_family(family)
    family.declared.write_text("sortedcontainers\n")
    lock_family(family)
    assert "sortedcontainers==2.3.0" in family.lock.read_text()
    lock_family(family, upgrade=True)
    assert "sortedcontainers==2.4.0" in family.lock.read_text()


def test_a_contradiction_is_told_in_the_locker_s_own_words(family: FamilyFiles) -> None:
    """The platform's pins do not move for a family; the old lock stays."""
    lock_family(family)
    before = family.lock.read_bytes()
    family.declared.write_text("iniconfig<1\n")
    with pytest.raises(EnvironmentCreationError) as raised:
        lock_family(family)
    assert "you require iniconfig==" in str(raised.value)
    assert "\\n" not in str(raised.value)
    assert "Resolve conflicting requirements" in str(raised.value)
    assert str(family.declared) in str(raised.value)
    assert family.lock.read_bytes() == before


def test_a_lock_older_than_its_packages_is_refused(family: FamilyFiles) -> None:
    """The remedy is the command that makes it again."""
    lock_family(family)
    family.declared.write_text("sortedcontainers\nsix\n")
    with pytest.raises(
        RequirementsError, match=r"sorting.lock is out of date: sorting.in has changed. Run `mlpipe lock"
    ):
        family.image()


def test_a_lock_for_another_platform_is_refused(family: FamilyFiles) -> None:
    """An upgrade of the platform moves its packages: the families are locked again."""
    lock_family(family)
    family.platform_lock.write_text(locked("packaging"))
    with pytest.raises(RequirementsError, match="is out of date: the platform's packages have changed"):
        family.image()


def test_a_missing_or_foreign_lock_is_refused(family: FamilyFiles) -> None:
    """So is one that another tool wrote."""
    with pytest.raises(RequirementsError, match=r"sorting.lock does not exist. Run `mlpipe lock sorting`"):
        family.image()
    family.lock.write_text("sortedcontainers==2.4.0\n")
    with pytest.raises(
        RequirementsError, match=r"lacks the header of `mlpipe lock`. Run `mlpipe lock sorting`"
    ):
        family.image()


def test_a_model_without_requirements_takes_the_platforms_packages(project: Project) -> None:
    """Its image is made of the platform's own lock."""
    image = family_files(project.requirements, ROOT, None).image()
    assert image == JobImage.of_lock("base", (ROOT / "requirements" / "scoring.lock").read_bytes())


def test_all_faults_of_a_project_are_told_together(project: Project) -> None:
    """One look at a project tells all; a family that two models name is told once."""
    (project.requirements / "boosting.in").write_text("lightgbm\n")
    faults = requirements_faults(project, ROOT, [None, "boosting", "boosting", "trees", "No/Name"])
    assert [fault.partition(". ")[0] for fault in faults] == [
        f"{project.requirements / 'boosting.lock'} does not exist",
        f"{project.requirements / 'trees.in'} does not exist",
        "'No/Name' is not the name of a family of requirements",
    ]


def test_families_are_the_files_of_the_folder(project: Project) -> None:
    """`mlpipe lock` without a name locks each; the platform's own name is none of them."""
    (project.requirements / "boosting.in").touch()
    (project.requirements / "trees.in").touch()
    assert declared_families(project) == ("boosting", "trees")


def test_no_family_leads_out_of_the_folder(project: Project) -> None:
    """Its name becomes a path."""
    with pytest.raises(JobImageError):
        family_files(project.requirements, ROOT, "../boosting")


def test_the_command_tells_a_fault_and_fails(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of the platform's own family is refused, and a family without a file."""
    monkeypatch.chdir(project.root)
    assert main([]) == 0
    assert "has no .in file" in capsys.readouterr().out
    (project.requirements / "base.in").touch()
    assert main([]) == 1
    assert "base is the name of the platform's own packages" in capsys.readouterr().err
    assert main(["trees"]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_an_environment_is_not_made_for_a_stale_lock(project: Project, tmp_path: Path) -> None:
    """Nothing is installed before all locks are found to be up to date."""
    with pytest.raises(RequirementsError, match=r"trees.in does not exist. Write it"):
        make_job_environments(project, [None, "trees"], tmp_path / "cache", say=print)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "mlpipe lock: interrupted. Every lock file is complete."),
        (OSError(28, "No space left on device"), 1, "No space left on device. Free disk space"),
    ],
)
def test_what_ends_a_locking_is_told_without_a_traceback(
    *,
    family: FamilyFiles,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    status: int,
    message: str,
) -> None:
    """Ctrl-C, or a disk that is full."""

    def ends(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setenv("MLPIPE_PROJECT", str(EXAMPLE.root))
    monkeypatch.setattr(family_locking, "lock_family", ends)
    assert main([family.family]) == status
    assert message in capsys.readouterr().err
