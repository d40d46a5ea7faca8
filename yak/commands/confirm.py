"""What a command that changes something asks first, and what `--dry-run` shows instead.

    $ yak topic delete orders
    This would delete topic orders: 3 partitions with 1,200 records.
    Go on? [y/N]:

Rules:

* What would happen is said once, in the words that follow "would" (`delete topic orders: …`),
  and the same words are shown by the question, by the refusal and by `--dry-run`.
* `--dry-run` says it on stdout and does nothing, also with `--yes`; with `--json` as a document
  with `dry_run`, `would`, and the command's own facts.
* What destroys asks on a terminal.  Without a terminal nobody could answer: then it is refused
  with exit code 2, and `--yes` is named.
* A "no" is exit code 1: what was asked for was not done.

    if confirmed(what, yes=yes, dry_run=dry_run, as_json=as_json):
        ...                                       # what destroys
    if not only_said(what, dry_run=dry_run, as_json=as_json):
        ...                                       # what changes, and destroys nothing

Not here: what would happen; that is each command's own to find out, before it asks.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from yak.commands.output import echo_json


def confirmed(
    what: str,
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> bool:
    """Whether to do what destroys; False after a dry run.  facts: as in `only_said`.

    Raises ClickException (exit code 1) after a "no", UsageError (2) where nobody can be asked.
    """
    if only_said(what, dry_run=dry_run, as_json=as_json, facts=facts):
        return False
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():  # None: it was closed before we began
        raise click.UsageError(
            f"this would {what}; there is no terminal to ask on: add --yes to do it, or --dry-run "
            "to see only what it would do"
        )
    click.echo(f"This would {what}.", err=True)
    if not click.confirm("Go on?", default=False, err=True):
        raise click.ClickException("not confirmed, so nothing was done")
    return True


def only_said(
    what: str, *, dry_run: bool, as_json: bool = False, facts: Mapping[str, Any] | None = None
) -> bool:
    """With --dry-run say what would happen, and return True: it is not to be done.

    facts: what the JSON document holds beside `dry_run` and `would`.
    """
    if not dry_run:
        return False
    if as_json:
        echo_json({"dry_run": True, "would": what, **(facts or {})})
    else:
        click.echo(f"would {what}")
    return True
