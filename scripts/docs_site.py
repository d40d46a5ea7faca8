"""What the documentation's site has beside docs/: mkdocs calls it (mkdocs.yml, `hooks`).

* Some pages lie elsewhere in the repository (ELSEWHERE), and are pages of the site as well.
* A folder in the nav stands for all its pages, each under its own title.
* A link is written so that it works in the repository.  To a page of the site it becomes that
  page's; to any other file it becomes its name, since a site has no source code.  One to a file
  that does not exist is left as it is, and mkdocs fails because of it.

Not here: how the site looks (mkdocs.yml).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = "docs/"
#: A file of the repository -> the page that it is.
ELSEWHERE: Final[Mapping[str, str]] = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "bench/README.md": "bench.md",
}

_FENCE: Final = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<to>[^()\s#:]+)(?P<anchor>#[^()\s]*)?\)")


def on_config(config: Any) -> Any:
    config.nav = [_unfolded(item) for item in config.nav]
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File  # only who builds the site has it

    for source, page in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    sources = {to: source for source, to in ELSEWHERE.items()}
    uri = page.file.src_uri
    return with_links_of_the_site(markdown, sources.get(uri, DOCS + uri), uri)


def with_links_of_the_site(markdown: str, source: str, page: str) -> str:
    """source: the page's file, from the repository's root; page: its place in the site."""

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found["to"]))
        if not (ROOT / target).exists():
            return found[0]
        there = ELSEWHERE.get(target) or _in_docs(target)
        if there is None:
            return f"{found['text']} (`{target}`)" if target not in found["text"] else found["text"]
        relative = posixpath.relpath(there, posixpath.dirname(page) or ".")
        return f"[{found['text']}]({relative}{found['anchor'] or ''})"

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def _in_docs(target: str) -> str | None:
    """The page that a file of docs/ is, or a folder's first."""
    if not target.startswith(DOCS):
        return None
    if (ROOT / target).is_dir():
        target += "/README.md"
    return target.removeprefix(DOCS)


def _unfolded(item: Any) -> Any:
    """Of the nav."""
    if isinstance(item, dict):
        return {title: _unfolded(inner) for title, inner in item.items()}
    if isinstance(item, list):
        return [_unfolded(inner) for inner in item]
    if item.endswith("/"):
        pages = sorted((ROOT / DOCS / item).glob("*.md"))
        pages.sort(key=lambda path: path.name != "README.md")
        return [f"{item}{path.name}" for path in pages]
    return item
