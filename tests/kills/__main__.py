"""`python -m tests.kills [--stride N] [--members] [--only SCENE] …`: killed at every system
call by which a store changes its disk, and restarted from each leftover; with --members, also real
brokers and yak-zk.

Exit code 0: whatever it was killed at, nothing durable was missing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.fault.strace import missing
from tests.kills.calls import Call
from tests.kills.members import kill_all_members
from tests.kills.run import Result, kill_everywhere
from tests.kills.scenes import scenes


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="at every Nth call only")
    parser.add_argument("--only", help="this scene alone")
    parser.add_argument("--members", action="store_true", help="real brokers and yak-zk, too")
    parser.add_argument("--call", help="this call alone, as `rename 3`")
    options = parser.parse_args()
    if why := missing():
        _say(f"skipped: {why}")
        return 0
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="yak-kills-", dir=_room()) as name:
        home = Path(name)
        for number, scene in enumerate(scenes(home)):
            if options.only in (None, scene.name):
                first = number % options.stride
                results.append(
                    kill_everywhere(
                        scene,
                        home,
                        lambda calls, first=first: _chosen(calls, options, first),  # type: ignore[misc]  # bound now
                    )
                )
                _say(str(results[-1]))
        for result in _members(home, options):
            results.append(result)
            _say(str(result))
    failures = [(one.scene, *failure) for one in results for failure in one.failures]
    for scene_name, call, text in failures:
        _say(
            f"---- {scene_name}, killed at {call}\n{text}"
            f'again: --only "{scene_name}" --call "{call}"'
        )
    _say(f"killed {sum(one.kills.total() for one in results)} times, {len(failures)} failures")
    return 1 if failures else 0


def _members(home: Path, options: argparse.Namespace) -> Iterator[Result]:
    if options.members:
        yield from kill_all_members(
            home, options.only, lambda calls: _chosen(calls, options, options.stride // 2)
        )


def _room() -> str | None:
    """In memory, where that can be: a kill takes nothing that was written, and syncs are free."""
    memory = "/dev/shm"
    return memory if os.access(memory, os.W_OK | os.X_OK) else None


def _chosen(calls: list[Call], options: argparse.Namespace, first: int) -> list[Call]:
    if options.call:
        return [call for call in calls if str(call).startswith(options.call)]
    return calls[first :: options.stride]


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
