"""The exercises for a class are followed, command by command: all that they say is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.docs.follow import follow
from tests.docs.pages import ROOT

#: A stopped follower's question is answered within a third of the lag, and the exercise waits 0.8 s
#: for that.  A checkpoint, which frees what `yak up` tried its topic with, would come between the
#: line that is changed and the start that finds it, where the machine is so slow.
SETTINGS: Final = {"YAK_ZK_REPLICA_LAG_MS": "2000", "YAK_BROKER_TRASH_MS": "600000"}


def test_the_exercises(tmp_path: Path) -> None:
    follow(ROOT / "docs/teachers.md", tmp_path, SETTINGS)
