"""`yak top` where it cannot be drawn; on a terminal it is tested with a real one."""

from __future__ import annotations

import os
import pty

import pytest
from click.testing import CliRunner

from yak.commands.top import _Pressed, top


def test_without_a_terminal_it_says_what_to_use_instead() -> None:
    result = CliRunner().invoke(top, [])
    assert result.exit_code == 1
    assert "yak status --watch" in result.output


@pytest.mark.parametrize(("typed", "leaves"), [(b"x", False), (b"xq", True), (b"Q", True)])
def test_keys(typed: bytes, *, leaves: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed + b"\n")
        assert _Pressed(theirs).quit(5.0) == leaves
        assert _Pressed(None).quit(0.0) is False
    finally:
        os.close(ours)
        os.close(theirs)


def test_an_input_that_ends_is_no_key() -> None:
    read, write = os.pipe()
    os.close(write)
    try:
        pressed = _Pressed(read)
        assert not pressed.quit(5.0)
        assert not pressed.quit(0.0)
    finally:
        os.close(read)
