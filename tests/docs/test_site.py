"""The documentation's site: links are right, broken ones fail, and nothing comes from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts.docs_site import with_links_of_the_site
from tests.docs.repository import copied


@pytest.mark.parametrize(
    ("source", "page", "written", "becomes"),
    [
        ("docs/safety.md", "safety.md", "[x](mutants.md)", "[x](mutants.md)"),
        ("docs/safety.md", "safety.md", "[x](mutants.md#a)", "[x](mutants.md#a)"),
        ("docs/safety.md", "safety.md", "[x](../README.md#a)", "[x](index.md#a)"),
        ("docs/safety.md", "safety.md", "[x](../tests/model)", "x (`tests/model`)"),
        ("docs/safety.md", "safety.md", "[tests/model](../tests/model)", "tests/model"),
        ("docs/safety.md", "safety.md", "[x](../tests/never)", "[x](../tests/never)"),
        ("docs/safety.md", "safety.md", "[x](#a) [y](https://a/b)", "[x](#a) [y](https://a/b)"),
        ("docs/safety.md", "safety.md", "```\n[x](../tests)\n```", "```\n[x](../tests)\n```"),
        ("README.md", "index.md", "[x](docs/safety.md)", "[x](safety.md)"),
        ("README.md", "index.md", "[x](docs/decisions/)", "[x](decisions/README.md)"),
        ("README.md", "index.md", "[x](docs/never.md)", "[x](docs/never.md)"),
        (
            "docs/decisions/README.md",
            "decisions/README.md",
            "[x](../safety.md)",
            "[x](../safety.md)",
        ),
        ("bench/README.md", "bench.md", "[x](../docs/safety.md)", "[x](safety.md)"),
    ],
)
def test_links(source: str, page: str, written: str, becomes: str) -> None:
    assert with_links_of_the_site(written, source, page) == becomes


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    if find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: make docs, or pip install -e '.[docs]'")
    return copied(tmp_path)


def build(repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=repository,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_reader_asks_nobody_else(repository: Path) -> None:
    built = build(repository)
    assert built.returncode == 0, built.stderr
    pages = list((repository / "site").rglob("*.html"))
    assert len(pages) > 20
    loaded = re.compile(r'(?:src="|<link[^>]*href="|url\()(?:https?:)?//[^")]*')
    asked = {
        (path.name, found)
        for path in (repository / "site").rglob("*.[hc][ts][ms]*")
        for found in loaded.findall(path.read_text(encoding="utf-8"))
    }
    assert asked == set()


def test_a_broken_link_fails_the_build(repository: Path) -> None:
    page = repository / "docs/library.md"
    broken = "[a](../tests/never) [b](never.md) [c](safety.md#never) [d](#never)"
    page.write_text(f"{page.read_text(encoding='utf-8')}\n{broken}\n", encoding="utf-8")
    (repository / "docs/nowhere-in-the-nav.md").write_text("# A page that nobody finds\n")
    built = build(repository)
    assert built.returncode != 0
    for word in (
        *("'../tests/never'", "'never.md'", "'safety.md#never'", "'#never'"),
        *("nowhere-in-the-nav.md", "Aborted with 5 warnings"),
    ):
        assert word in built.stdout + built.stderr, built.stdout + built.stderr
