"""Tests of locking a family's packages together with the platform's, and of noticing stale locks."""

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
    needed_families,
    requirements_faults,
)
from model_declaration.project import Project
from prediction_contract.jobs.job_image import JobImage, JobImageError
from tests.infra.environments.small_locks import ROOT, locked, write_stale_lock
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from pathlib import Path

MARKER = '[tool.dg.project]\nroot_module = "acme"\n[tool.mlpipe]\n'


@pytest.fixture
def family(tmp_path: Path) -> FamilyFiles:
    """Return a family with one package, and a platform lock with another one."""
    platform = tmp_path / "scoring.lock"
    platform.write_text(locked("iniconfig"), encoding="utf-8")
    declared = tmp_path / "sorting.in"
    declared.write_text("sortedcontainers\n")
    return FamilyFiles("sorting", declared, tmp_path / "sorting.lock", platform)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project without requirement files."""
    root = tmp_path / "acme"
    for folder in ("src/acme/defs", "requirements"):
        (root / folder).mkdir(parents=True)
    (root / "src/acme/__init__.py").touch()
    (root / "pyproject.toml").write_text(MARKER)
    return Project.at(root)


def test_lock_holds_platform_pins_and_family_packages(family: FamilyFiles) -> None:
    """A lock has both with hashes, names no registry, and an environment can be made from it."""
    assert lock_family(family)
    text = family.lock.read_text()
    assert locked("iniconfig") in text
    assert "sortedcontainers==" in text
    assert "://" not in text
    assert family.image() == JobImage.of_lock("sorting", text.encode())
    made = make_environment(family.lock, family.lock.parent / "cache", say=print)
    assert {"iniconfig", "sortedcontainers"} <= {path.name for path in made.packages.iterdir()}


def test_locking_again_changes_nothing(family: FamilyFiles) -> None:
    """Locking an unchanged family again reports no change and leaves no extra files."""
    lock_family(family)
    before = sorted(path.name for path in family.lock.parent.iterdir())
    assert not lock_family(family)
    assert sorted(path.name for path in family.lock.parent.iterdir()) == before


def test_pins_move_only_on_upgrade(family: FamilyFiles) -> None:
    """Locking keeps the pinned release although a newer one is allowed, and an upgrade takes the newest."""
    family.declared.write_text("sortedcontainers==2.3.0\n")
    lock_family(family)
    family.declared.write_text("sortedcontainers\n")
    lock_family(family)
    assert "sortedcontainers==2.3.0" in family.lock.read_text()
    lock_family(family, upgrade=True)
    assert "sortedcontainers==2.4.0" in family.lock.read_text()


def test_conflicting_requirement_is_explained_by_uv(family: FamilyFiles) -> None:
    """A requirement that conflicts with the platform fails with uv's explanation and keeps the old lock."""
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


def test_lock_older_than_its_requirements_is_refused(family: FamilyFiles) -> None:
    """If the requirements changed, the lock is refused with the command that updates it."""
    lock_family(family)
    family.declared.write_text("sortedcontainers\nsix\n")
    with pytest.raises(
        RequirementsError, match=r"sorting.lock is out of date: sorting.in has changed. Run `mlpipe lock"
    ):
        family.image()


def test_lock_for_older_platform_is_refused(family: FamilyFiles) -> None:
    """If the platform's packages changed, as after an upgrade, a family's lock is refused."""
    lock_family(family)
    family.platform_lock.write_text(locked("packaging"))
    with pytest.raises(RequirementsError, match="is out of date: the platform's packages have changed"):
        family.image()


def test_missing_or_foreign_lock_is_refused(family: FamilyFiles) -> None:
    """A missing lock, or one written by another tool, is refused with the command that creates it."""
    with pytest.raises(RequirementsError, match=r"sorting.lock does not exist. Run `mlpipe lock sorting`"):
        family.image()
    family.lock.write_text("sortedcontainers==2.4.0\n")
    with pytest.raises(
        RequirementsError, match=r"lacks the header of `mlpipe lock`. Run `mlpipe lock sorting`"
    ):
        family.image()


def test_model_without_requirements_uses_platform_packages(project: Project) -> None:
    """The image of a model without requirements is made from the platform's own lock."""
    image = family_files(project.requirements, ROOT, None).image()
    assert image == JobImage.of_lock("base", (ROOT / "requirements" / "scoring.lock").read_bytes())


def test_all_requirement_faults_are_reported_together(project: Project) -> None:
    """All faults of a project's requirements are reported at once, each family only once."""
    (project.requirements / "boosting.in").write_text("lightgbm\n")
    faults = requirements_faults(project, ROOT, [None, "boosting", "boosting", "trees", "No/Name"])
    assert [fault.partition(". ")[0] for fault in faults] == [
        f"{project.requirements / 'boosting.lock'} does not exist",
        f"{project.requirements / 'trees.in'} does not exist",
        "'No/Name' is not the name of a family of requirements",
    ]


def test_families_are_named_by_requirement_files(project: Project) -> None:
    """Each .in file in the requirements folder is a family."""
    (project.requirements / "boosting.in").touch()
    (project.requirements / "trees.in").touch()
    assert declared_families(project) == ("boosting", "trees")


def test_platforms_name_is_reserved(project: Project) -> None:
    """A file base.in is a fault even if no model names it, because no job would get its packages."""
    (project.requirements / "base.in").touch()
    message = "base is the name of the platform's own packages. Rename the file in requirements/"
    with pytest.raises(RequirementsError, match=message):
        declared_families(project)
    with pytest.raises(RequirementsError, match=message):
        needed_families(project, [])
    (fault,) = requirements_faults(project, ROOT, [None, "base"])
    assert message in fault


def test_family_name_cannot_leave_the_folder(project: Project) -> None:
    """A family name that leads out of the requirements folder is refused."""
    with pytest.raises(JobImageError):
        family_files(project.requirements, ROOT, "../boosting")


def test_command_reports_faults(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mlpipe lock` reports a project without families, and fails for the name base or an unknown family."""
    monkeypatch.chdir(project.root)
    assert main([]) == 0
    assert "has no .in file" in capsys.readouterr().out
    (project.requirements / "base.in").touch()
    assert main([]) == 1
    assert "base is the name of the platform's own packages" in capsys.readouterr().err
    assert main(["trees"]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_no_environment_is_created_with_missing_or_stale_lock(project: Project, tmp_path: Path) -> None:
    """Nothing is installed if any family's requirement file is missing or its lock is out of date."""
    with pytest.raises(RequirementsError, match=r"trees.in does not exist. Write it"):
        make_job_environments(project, [None, "trees"], tmp_path / "cache", say=print)
    write_stale_lock(project, "trees")
    with pytest.raises(RequirementsError, match=r"trees.lock is out of date: trees.in has changed"):
        make_job_environments(project, [None, "trees"], tmp_path / "cache", say=print)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "mlpipe lock: interrupted. Every lock file is complete."),
        (OSError(28, "No space left on device"), 1, "No space left on device. Free disk space"),
    ],
)
def test_interrupted_locking_is_reported_without_traceback(
    *,
    family: FamilyFiles,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    status: int,
    message: str,
) -> None:
    """Ctrl-C or a full disk ends `mlpipe lock` with a message instead of an exception."""

    def ends(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setenv("MLPIPE_PROJECT", str(EXAMPLE.root))
    monkeypatch.setattr(family_locking, "lock_family", ends)
    assert main([family.family]) == status
    assert message in capsys.readouterr().err
