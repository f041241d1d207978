"""Parses what a project's module defines and imports, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FunctionFacts:
    """A function's signature.

    Attributes:
        line: The line where it begins.
        positional: The parameters that can be passed by position, in order.
        by_name: The keyword-only parameters.
        with_default: The parameters that have a default.
        has_kwargs: Whether it has `**kwargs`.
        has_args: Whether it has `*args`.
    """

    line: int
    positional: tuple[str, ...]
    by_name: tuple[str, ...]
    with_default: frozenset[str]
    has_kwargs: bool
    has_args: bool


@dataclass(frozen=True, slots=True)
class ModuleFacts:
    """A module's definitions and imports.

    Attributes:
        path: The module's file.
        names: The names that it defines or imports at the top level.
        functions: Its own top-level functions by name.
        imports: The line and name of each module that it imports at the top level.
        is_complete: False if `from x import *` may define more names.
    """

    path: Path
    names: frozenset[str]
    functions: dict[str, FunctionFacts]
    imports: tuple[tuple[int, str], ...]
    is_complete: bool


def module_path(source_folder: Path, module: str) -> Path | None:
    """Return the file of a module below a folder on Python's path, or None."""
    place = source_folder.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def module_facts(path: Path) -> ModuleFacts:
    """Parse a file.

    Raises:
        SyntaxError: The file is not valid Python.
    """
    tree = ast.parse(path.read_bytes(), filename=str(path))
    statements = list(_first_level(tree.body))
    imported = [name for each in statements for name in _imported_names(each)]
    return ModuleFacts(
        path=path,
        names=frozenset([*imported, *(name for each in statements for name in _defined_names(each))]),
        functions={
            each.name: _function_facts(each) for each in statements if isinstance(each, ast.FunctionDef)
        },
        imports=tuple(pair for each in statements for pair in _imported_modules(each)),
        is_complete="*" not in imported,
    )


def _first_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run at import, including those within `if`, `try` and `with`."""
    for statement in body:
        yield statement
        match statement:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                yield from _first_level(statement.orelse)
            case ast.If():
                yield from _first_level([*statement.body, *statement.orelse])
            case ast.Try():
                handled = [each for handler in statement.handlers for each in handler.body]
                yield from _first_level([*statement.body, *handled, *statement.orelse, *statement.finalbody])
            case ast.With():
                yield from _first_level(statement.body)


def _defined_names(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign():
            for target in statement.targets:
                yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))
        case ast.AnnAssign(target=ast.Name(name)):
            yield name


def _imported_names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (each.asname or each.name.split(".")[0] for each in statement.names)


def _imported_modules(statement: ast.stmt) -> Iterator[tuple[int, str]]:
    match statement:
        case ast.Import():
            yield from ((statement.lineno, each.name) for each in statement.names)
        case ast.ImportFrom(module=module, level=level) if module != "__future__":
            yield statement.lineno, "." * level + (module or "")


def _function_facts(function: ast.FunctionDef) -> FunctionFacts:
    arguments = function.args
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    defaults = positional[len(positional) - len(arguments.defaults) :]
    named = [
        each.arg
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    ]
    return FunctionFacts(
        line=function.lineno,
        positional=tuple(positional),
        by_name=tuple(each.arg for each in arguments.kwonlyargs),
        with_default=frozenset([*defaults, *named]),
        has_kwargs=arguments.kwarg is not None,
        has_args=arguments.vararg is not None,
    )
