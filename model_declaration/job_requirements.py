"""The lock files of a project's requirement families: where they are, and whether they are up to date.

A family's lock file lists all packages of its jobs: the platform's own and those of
`requirements/<family>.in`. Its header records the digests of both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from model_declaration.declaration import ModelDeclaration
from model_declaration.project import MARKER, Project
from prediction_contract.errors import ContractError
from prediction_contract.jobs.job_image import BASE_FAMILY, JobImage

_HEAD = (
    "# Made by `mlpipe lock {family}`, which makes it again; what it was made of:\n"
    "#   {family}.in {declared}\n"
    "#   the platform's packages {platform}\n"
)
_FORM = re.compile(
    r"# Made by `mlpipe lock [a-z0-9_]+`.*\n"
    r"#   \S+\.in ([0-9a-f]{64})\n"
    r"#   the platform's packages ([0-9a-f]{64})\n"
)


class RequirementsError(ContractError):
    """A family's lock file is missing or out of date, or its name is reserved."""


@dataclass(frozen=True, slots=True)
class FamilyFiles:
    """The files of a requirement family.

    Attributes:
        family: The family's name.
        declared: The hand-written list of packages beyond the platform's.
        lock: The lock file that `mlpipe lock` makes from it.
        platform_lock: The lock file of the platform's own job packages.
    """

    family: str
    declared: Path
    lock: Path
    platform_lock: Path

    def head(self) -> str:
        """Return the header of a lock file made from the current files.

        Raises:
            RequirementsError: A file cannot be read.
        """
        declared, platform = (
            hashlib.sha256(_content(path, remedy)).hexdigest() for path, remedy in self._sources
        )
        return _HEAD.format(family=self.family, declared=declared, platform=platform)

    @property
    def _sources(self) -> tuple[tuple[Path, str], ...]:
        return (
            (self.declared, "Write it with one package per line, then run `mlpipe lock`"),
            (self.platform_lock, "Install mlpipe again"),
        )

    def image(self) -> JobImage:
        """Return the image of the family's jobs.

        Raises:
            RequirementsError: The lock file is missing or out of date.
        """
        if self.family == BASE_FAMILY:
            return JobImage.of_lock(BASE_FAMILY, _content(self.platform_lock, "Install mlpipe again"))
        remedy = f"Run `mlpipe lock {self.family}`"
        head = self.head()
        content = _content(self.lock, remedy)
        found = _FORM.match(content.decode(errors="replace"))
        if found is None:
            raise RequirementsError(f"{self.lock} lacks the header of `mlpipe lock`", remedy=remedy)
        wanted = _FORM.match(head)
        if wanted is None or found[1] != wanted[1]:
            raise RequirementsError(
                f"{self.lock} is out of date: {self.declared.name} has changed", remedy=remedy
            )
        if found[2] != wanted[2]:
            raise RequirementsError(
                f"{self.lock} is out of date: the platform's packages have changed", remedy=remedy
            )
        return JobImage.of_lock(self.family, content)


def family_files(folder: Path, platform: Path, family: str | None) -> FamilyFiles:
    """Return the files of a family.

    Args:
        folder: The project's `requirements/`.
        platform: The platform's folder.
        family: The family that a model names; None for a model without requirements.

    Raises:
        JobImageError: The name is malformed.
    """
    name = family or BASE_FAMILY
    # Validates the name before it becomes part of a path.
    JobImage.of_lock(name, b"")
    base = platform / "requirements" / "scoring.lock"
    if name == BASE_FAMILY:
        return FamilyFiles(name, base, base, base)
    return FamilyFiles(name, folder / f"{name}.in", folder / f"{name}.lock", base)


def job_image(declaration: ModelDeclaration, platform: Path) -> JobImage:
    """Return the image of a model's jobs.

    Args:
        declaration: The model's declaration.
        platform: The platform's folder.

    Raises:
        RequirementsError: The family's lock file is missing or out of date.
    """
    return family_files(_requirements_folder(declaration), platform, declaration.requirements).image()


def _requirements_folder(declaration: ModelDeclaration) -> Path:
    package = declaration.package_folder
    if package is None:
        return Path("requirements")
    # The package is in the project's folder or in its `src/`.
    root = package.parent if (package.parent / MARKER).is_file() else package.parents[1]
    return root / "requirements"


def declared_families(project: Project) -> tuple[str, ...]:
    """Return all families that the project declares, even if no model names them.

    Raises:
        RequirementsError: A family has the name of the platform's own packages.
    """
    found = tuple(sorted(path.stem for path in project.requirements.glob("*.in")))
    for family in found:
        refuse_platform_family(family)
    return found


def refuse_platform_family(family: str) -> None:
    """Refuse the name of the platform's own packages, because jobs would not get the project's packages.

    Raises:
        RequirementsError: The family has that name.
    """
    if family == BASE_FAMILY:
        raise RequirementsError(
            f"{BASE_FAMILY} is the name of the platform's own packages",
            remedy="Rename the file in requirements/",
        )


def needed_families(
    project: Project, declarations: Iterable[ModelDeclaration | None]
) -> tuple[str | None, ...]:
    """Return the families that a project's models name; None means the platform's own packages.

    Args:
        project: The project.
        declarations: Its models' declarations; None for one that only Dagster can read, which may name any
            family.

    Raises:
        RequirementsError: A family of the project has the name of the platform's own packages.
    """
    found, declared = list(declarations), declared_families(project)
    named = {each.requirements for each in found if each is not None}
    if None in found:
        named.update(declared)
    return tuple(sorted(named, key=str))


def requirements_faults(project: Project, platform: Path, families: Iterable[str | None]) -> list[str]:
    """Return the faults of the families' names and lock files, each with a remedy.

    Args:
        project: The project.
        platform: The platform's folder.
        families: The families that the models name; None for a model without requirements.
    """
    faults = []
    try:
        declared_families(project)
    except RequirementsError as error:
        faults.append(str(error))
    for family in dict.fromkeys(families):
        try:
            family_files(project.requirements, platform, family).image()
        except ContractError as error:
            faults.append(str(error))
    return faults


def _content(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RequirementsError(f"{path} does not exist", remedy=remedy) from error
    except OSError as error:
        raise RequirementsError(
            f"{path} cannot be read: {error.strerror}", remedy="Make the file readable"
        ) from error
