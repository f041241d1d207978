"""The lock files of a project's families of requirements: where they lie, and whether they are up to date.

A family's lock file is the whole environment of its jobs: the platform's own packages and those of its
`requirements/<family>.in`. Its head records what it was made of.
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
    """The packages of a family are not locked, or no longer as they are declared."""


@dataclass(frozen=True, slots=True)
class FamilyFiles:
    """The files of a family of requirements.

    Attributes:
        family: Its name.
        declared: What a person writes: the packages that its models need beside the platform's.
        lock: What `mlpipe lock` makes of it.
        platform_lock: The platform's own packages of jobs.
    """

    family: str
    declared: Path
    lock: Path
    platform_lock: Path

    def head(self) -> str:
        """Return the head of a lock file that is made of the files as they are.

        Raises:
            RequirementsError: One of them cannot be read.
        """
        declared, platform = (
            hashlib.sha256(_content(path, remedy)).hexdigest() for path, remedy in self._sources
        )
        return _HEAD.format(family=self.family, declared=declared, platform=platform)

    @property
    def _sources(self) -> tuple[tuple[Path, str], ...]:
        return (
            (self.declared, "Write it, one package a line, then run `mlpipe lock`"),
            (self.platform_lock, "Install mlpipe again"),
        )

    def image(self) -> JobImage:
        """Return the image of the family's jobs.

        Raises:
            RequirementsError: There is no lock file, or it was made of other files than are there now.
        """
        if self.family == BASE_FAMILY:
            return JobImage.of_lock(BASE_FAMILY, _content(self.platform_lock, "Install mlpipe again"))
        remedy = f"Run `mlpipe lock {self.family}`"
        head = self.head()
        content = _content(self.lock, remedy)
        found = _FORM.match(content.decode(errors="replace"))
        if found is None:
            raise RequirementsError(f"{self.lock} does not say what it was made of", remedy=remedy)
        wanted = _FORM.match(head)
        if wanted is None or found[1] != wanted[1]:
            raise RequirementsError(f"{self.lock} was made of another {self.declared.name}", remedy=remedy)
        if found[2] != wanted[2]:
            raise RequirementsError(
                f"{self.lock} was made for another version of the platform's packages", remedy=remedy
            )
        return JobImage.of_lock(self.family, content)


def family_files(folder: Path, platform: Path, family: str | None) -> FamilyFiles:
    """Return the files of a family.

    Args:
        folder: The project's `requirements/`.
        platform: The platform's folder.
        family: As a model names it; None for a model without requirements.

    Raises:
        JobImageError: The name has another form.
    """
    name = family or BASE_FAMILY
    # Its form is judged before it becomes part of a path.
    JobImage.of_lock(name, b"")
    base = platform / "requirements" / "scoring.lock"
    if name == BASE_FAMILY:
        return FamilyFiles(name, base, base, base)
    return FamilyFiles(name, folder / f"{name}.in", folder / f"{name}.lock", base)


def job_image(declaration: ModelDeclaration, platform: Path) -> JobImage:
    """Return the image of a model's jobs.

    Args:
        declaration: The model's.
        platform: The platform's folder.

    Raises:
        RequirementsError: Its family is not locked, or no longer as it is declared.
    """
    return family_files(_requirements_folder(declaration), platform, declaration.requirements).image()


def _requirements_folder(declaration: ModelDeclaration) -> Path:
    package = declaration.package_folder
    if package is None:
        return Path("requirements")
    # The package lies in the project's folder, or in its `src/`.
    root = package.parent if (package.parent / MARKER).is_file() else package.parents[1]
    return root / "requirements"


def declared_families(project: Project) -> tuple[str, ...]:
    """Return the families that the project declares packages of, whether a model names them or not."""
    return tuple(sorted(path.stem for path in project.requirements.glob("*.in")))


def needed_families(
    project: Project, declarations: Iterable[ModelDeclaration | None]
) -> tuple[str | None, ...]:
    """Return the families that a project's models name; None stands for the platform's own packages.

    Args:
        project: Whose.
        declarations: Of its models; None for one that only Dagster can read, which may name any family.
    """
    found = list(declarations)
    named = {each.requirements for each in found if each is not None}
    if None in found:
        named.update(declared_families(project))
    return tuple(sorted(named, key=str))


def requirements_faults(project: Project, platform: Path, families: Iterable[str | None]) -> list[str]:
    """Return what is wrong with the lock files of families, each as a sentence with a remedy.

    Args:
        project: Whose.
        platform: The platform's folder.
        families: Those that the models name; None for a model without requirements.
    """
    faults = []
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
        raise RequirementsError(f"There is no {path}", remedy=remedy) from error
    except OSError as error:
        raise RequirementsError(f"{path} cannot be read: {error.strerror}", remedy="Mend it") from error
