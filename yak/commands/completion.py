"""`yak completion bash|zsh|fish`: what a shell's start-up file reads, so that Tab knows yak.

    source <(yak completion bash)                  in ~/.bashrc
    source <(yak completion zsh)                   in ~/.zshrc, after compinit
    yak completion fish | source                   in ~/.config/fish/config.fish

One script for `yak` and for each command that is installed under a name of its own.  The scripts
are click's; they run the command itself, with a variable that asks what could come next.

Not here: what could come next; the commands know (completing.py asks the cluster for names).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import get_completion_class

from yak.commands.options import examples

if TYPE_CHECKING:
    from collections.abc import Iterable

SHELLS: Final = ("bash", "zsh", "fish")
#: The commands as they are installed: [project.scripts] in pyproject.toml.
PROGRAMS: Final = ("yak", "yak-zk", "yak-broker", "yak-produce", "yak-consume")


@click.command(
    epilog=examples(
        "source <(yak completion bash)         in ~/.bashrc",
        "source <(yak completion zsh)          in ~/.zshrc, after compinit",
        "yak completion fish | source          in ~/.config/fish/config.fish",
    )
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(*, shell: str) -> None:
    """Print what makes a shell complete yak's commands, options, topics and groups.

    Put the line for your shell, below, into the file that is named after it, and open a new one.
    Topics and groups are asked of the cluster, if it answers at once.
    """
    click.echo("\n".join(scripts(shell, PROGRAMS)), nl=False)


def scripts(shell: str, programs: Iterable[str]) -> list[str]:
    """The script of each program."""
    kind = get_completion_class(shell)
    assert kind is not None, shell
    made: list[str] = []
    for program in programs:
        # The name that click looks for when the program runs: click.Command.main.
        variable = f"_{program}_COMPLETE".replace("-", "_").upper()
        completer = kind(click.Command(program), {}, program, variable)
        # Not its source(): that starts a bash to see how old it is.
        made.append(completer.source_template % completer.source_vars())
    return made
