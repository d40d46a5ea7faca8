"""Several processes' lines on one screen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yak.commands.screen import Screen
from yak.local.follow import Follower


def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A long event of yak-zk, as it appears."""
    files = {name: tmp_path / f"{name}.jsonl" for name in ("yak-zk", "broker-1")}
    follower = Follower(files, {})
    entry = {"time": 1_795_340_460_123, "process": "p", "event": "elected"}
    files["yak-zk"].write_text(json.dumps({**entry, "reason": "long " * 40}) + "\n")
    Screen(follower).show()
    follower.close()
    return capsys.readouterr().out


def test_in_a_pipe_a_line_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(tmp_path, capsys)
    assert out.count("\n") == 1
    assert ".123 yak-zk    elected reason=" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("plain", [True, False])
def test_on_a_terminal_it_goes_on_below_its_beginning(
    plain: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if plain:
        monkeypatch.setenv("NO_COLOR", "1")
    out = shown(tmp_path, capsys)
    assert ("\x1b[33myak-zk" in out) == (not plain)
    first, *more = out.splitlines()
    assert "elected reason=" in first
    assert more
    assert all(line.startswith(" " * 23 + "long") for line in more)
    assert max(map(len, more)) <= 80
