"""Running a command as a process: its outcome becomes one line at most, and an exit code.

    0     done, or the reader of stdout has left
    1     something failed                        error: what, where, why, what to do next
    2     the command line was wrong              error: …  (see `yak-broker --help`)
    130   interrupted                             (nothing)

Never a traceback, but for a bug.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, TypeVar

import click

from yak.errors import Fatal, YakError

#: What a shell reports for a process that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED: Final = 130
_FAILED: Final = 1

T = TypeVar("T")


def run(actor: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on uvloop where there is one; imported only when it is needed."""
    import asyncio

    from yak.net.loop_thread import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(actor)


def enter(load: Callable[[], click.Command], name: str) -> NoReturn:
    """Run a command to its end, and the process with it.  load: imports it, which takes time."""
    _open_what_is_closed()
    out = sys.stdout
    try:
        outcome = load().main(prog_name=name, standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0
    except click.UsageError as e:
        code = _refuse(e, name)
    except click.ClickException as e:
        code = say(e.format_message(), e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Fatal as e:
        code = say(e.message, e.exit_code)
    except YakError as e:
        code = say(f"{e} ({e.hint})" if e.hint else str(e), _FAILED)
    except SystemExit:
        if sys.stdout is out:
            raise
        sys.stdout, code = out, 0  # click put another in its place: whoever read it has left
    _leave(code)


def _open_what_is_closed() -> None:
    """Whoever was started without stdin, stdout or stderr reads nothing, and writes to nobody.

    Else the next file that is opened would take that number, and what is meant for people would
    stand in it.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", closefd=False))


def say(message: str, code: int) -> int:
    """The one line on stderr, folded on a terminal; returns the exit code that belongs to it."""
    from yak.commands.output import echo_wrapped

    echo_wrapped("error: " + " ".join(message.split()), err=True)
    return code


def _refuse(error: click.UsageError, name: str) -> int:
    context = error.ctx
    if context is not None and error.message == context.get_help():
        click.echo(error.message, err=True)  # a group without a command: click means its help
        return error.exit_code
    where = context.command_path if context is not None else name
    return say(f"{error.format_message()} (see `{where} --help`)", error.exit_code)


def _leave(code: int) -> NoReturn:
    """Exit.  A reader of stdout who has left is no error of ours, and Python shall not say so."""
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)
