"""What destroys asks, or is refused; a dry run says the same words and does nothing."""

from __future__ import annotations

import json

import click
import pytest

from yak.commands.confirm import confirmed, only_said

WHAT = "delete topic orders: 3 partitions"


def _terminal(monkeypatch: pytest.MonkeyPatch, *, answers: bool | None) -> list[str]:
    """A terminal whose user answers so; None: there is no terminal."""
    asked: list[str] = []

    def confirm(question: str, *, default: bool, err: bool) -> bool:
        assert not default
        assert err
        asked.append(question)
        assert answers is not None, "asked without a terminal"
        return answers

    monkeypatch.setattr("sys.stdin.isatty", lambda: answers is not None)
    monkeypatch.setattr("click.confirm", confirm)
    return asked


def test_yes_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _terminal(monkeypatch, answers=False)
    assert confirmed(WHAT, yes=True, dry_run=False)
    assert asked == []


def test_a_terminal_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = _terminal(monkeypatch, answers=True)
    assert confirmed(WHAT, yes=False, dry_run=False)
    assert len(asked) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"This would {WHAT}.\n"


def test_a_no_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    _terminal(monkeypatch, answers=False)
    with pytest.raises(click.ClickException, match="nothing was done") as raised:
        confirmed(WHAT, yes=False, dry_run=False)
    assert raised.value.exit_code == 1


def test_without_a_terminal_it_is_refused_and_yes_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _terminal(monkeypatch, answers=None)
    with pytest.raises(click.UsageError, match=f"would {WHAT}; .*add --yes") as raised:
        confirmed(WHAT, yes=False, dry_run=False)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("yes", [False, True])
def test_a_dry_run_says_it_and_asks_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], yes: bool
) -> None:
    asked = _terminal(monkeypatch, answers=True)
    assert not confirmed(WHAT, yes=yes, dry_run=True)
    assert asked == []
    assert capsys.readouterr().out == f"would {WHAT}\n"


def test_a_dry_run_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"topic": "orders", "partitions": 3}
    assert not confirmed(WHAT, yes=False, dry_run=True, as_json=True, facts=facts)
    assert json.loads(capsys.readouterr().out) == {"dry_run": True, "would": WHAT, **facts}


def test_what_destroys_nothing_is_only_said_in_a_dry_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not only_said(WHAT, dry_run=False)
    assert capsys.readouterr().out == ""
    assert only_said(WHAT, dry_run=True)
    assert capsys.readouterr().out == f"would {WHAT}\n"
