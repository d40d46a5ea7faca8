"""The manner of the code, as a test: what it finds, it says what to do about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.repository import known_to_git
from yak.cli import yak

MAX_FUNCTION_LINES = 50
MAX_MODULE_LINES = 400
MAX_MODULE_LINES_WITH_REASON = 600

#: What the docstring of a longer module says, in the sentence that gives the reason.
LONG = f"more than {MAX_MODULE_LINES} lines"

_MARKERS = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")))
_HOME = re.compile("(?<![A-Za-z0-9_.])/(" + "home|root|Users|work" + ")/")
_COMMENTED_NOQA = re.compile(r"#\s*(?:noqa|type: ignore)(?P<rest>[^#\n]*)")
_ONE_CODE_ONE_REASON = re.compile(r"(?:: [A-Z]+[0-9]+|\[[a-z-]+\])\s+(?:--|#)\s*\S.*")


def _files(*suffixes: str) -> list[Path]:
    return sorted(ROOT / name for name in known_to_git() if name.endswith(suffixes))


def _modules() -> list[Path]:
    return _files(".py")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_is_something_to_look_at() -> None:
    assert len(_modules()) > 20


def test_functions_are_short() -> None:
    long = [
        f"{_name(path)}:{node.lineno} {node.name} has {lines} lines"
        for path in _modules()
        for node in _functions(path)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) >= MAX_FUNCTION_LINES
    ]
    assert not long, f"under {MAX_FUNCTION_LINES} lines: give a part of it a name.\n" + "\n".join(
        long
    )


def test_modules_are_short() -> None:
    long = []
    for path in _modules():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        limit = MAX_MODULE_LINES_WITH_REASON if _may_be_long(path) else MAX_MODULE_LINES
        if lines >= limit:
            long.append(f"{_name(path)} has {lines} lines, and may have {limit - 1}")
    assert not long, (
        f"split it where it does two things, or say in its docstring why it has {LONG}.\n"
        + "\n".join(long)
    )


def _may_be_long(path: Path) -> bool:
    """A test module is a list of cases; any other gives its reason."""
    text = path.read_text(encoding="utf-8")
    words = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
    return LONG in words or ROOT / "tests" in path.parents


def test_modules_say_what_they_are() -> None:
    silent = [
        _name(path)
        for path in _modules()
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not silent, "begin with a docstring that states the rules.\n" + "\n".join(silent)


def test_nothing_is_left_for_later() -> None:
    left = _lines_with(_MARKERS, ".py", ".md", ".toml", "Makefile", "run")
    assert not left, "do it now, or leave it out.\n" + "\n".join(left)


def test_nothing_speaks_of_one_machine() -> None:
    left = _lines_with(_HOME, ".py", ".md", ".toml", "Makefile", "run")
    assert not left, "a path of somebody's machine: make it relative.\n" + "\n".join(left)


def _lines_with(pattern: re.Pattern[str], *suffixes: str) -> list[str]:
    return [
        f"{_name(path)}:{number} {line.strip()}"
        for path in _files(*suffixes)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_each_exception_to_a_rule_has_one_code_and_one_reason() -> None:
    bare = []
    for path in _modules():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = _COMMENTED_NOQA.search(line)
            after = line[found.end("rest") :] if found else ""
            if found and not _ONE_CODE_ONE_REASON.match(found["rest"] + after):
                bare.append(f"{_name(path)}:{number} {line.strip()}")
    assert not bare, "write `# noqa: CODE -- why`, one code each.\n" + "\n".join(bare)


def test_units_are_tested_beside_what_they_test() -> None:
    """tests/unit mirrors yak/: a test of no module is a test of nothing in particular."""
    strays = [
        _name(path)
        for path in _modules()
        if path.name.startswith("test_") and (ROOT / "tests/unit") in path.parents
        if not _tested(path)
    ]
    assert not strays, (
        "name it after the module that it tests, test_MODULE.py or test_MODULE_theme.py.\n"
        + "\n".join(strays)
    )


def _tested(test: Path) -> bool:
    """Whether a module stands where the test's path says, or one whose name it begins with."""
    folder = ROOT / "yak" / test.parent.relative_to(ROOT / "tests/unit")
    words = test.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:n]) for n in range(1, len(words) + 1)]
    return any((folder / f"{name}.py").is_file() or (folder / name).is_dir() for name in names)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_commands_that_documents_name_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    context = yak.make_context("yak", [], resilient_parsing=True)
    commands = set(yak.list_commands(context))
    named = set(re.findall(r"(?:\$ |`)(?:\.venv/bin/)?yak[ -]([a-z]+(?:-[a-z]+)*)", text))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = set(re.findall(r"(?:^ {4}|\$ |`)make ([a-z]+)", text, re.MULTILINE))
    assert named <= commands, f"{document} names a command that yak does not have"
    assert made <= targets, f"{document} names a target that the Makefile does not have"


def test_the_architecture_names_every_module() -> None:
    """And nothing that is not there."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    house = text[text.index("## The house") :]
    named = set(re.findall(r"`(?:[a-z]+/)?([a-z_]+\.py)`", house))
    there = {path.name for path in _modules() if ROOT / "yak" in path.parents}
    assert named == there - {"__init__.py"}, "docs/architecture.md, The house: keep it true"
