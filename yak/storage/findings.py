"""What a broker found wrong with its disk, for `status`: of its story, what somebody should hear.

    event in the story                          | a finding                 | mended by
    --------------------------------------------+---------------------------+-------------------
    started, and its state is not "whole"       | torn, damaged, unclean    | whole_again
    not_whole (yak-zk's word about this disk)   | the same                  | whole_again
    file_damaged, log_damaged                   | damaged                   | whole_again
    started, and there are files in damaged/    | kept                      | who deletes them
    storage_failed                              | refused                   | storage_goes_on
    flush_failed                                | unflushed                 | flushed_again
    checkpoint_waits                            | no_checkpoint             | checkpoint
    file_unreadable                             | unreadable                | a restart

Rules:

* A finding stays when it is mended, with when and how, so that whoever looks later learns of it:
  until the process ends.  For longer there is the story itself, in events.jsonl.
* While one is not mended, the same again is not another one: `times` counts.
* There are MAX_FINDINGS; with more, the one mended longest ago goes.

It hears what is told and tells nothing.  What a broker does about damage is recovery.py's, and the
core's.
"""

from __future__ import annotations

from typing import Any, Final

from yak.config import MAX_FINDING_CHARS, MAX_FINDINGS
from yak.messages import Finding

_FOUND: Final = {
    "file_damaged": "damaged",
    "log_damaged": "damaged",
    "storage_failed": "refused",
    "flush_failed": "unflushed",
    "checkpoint_waits": "no_checkpoint",
    "file_unreadable": "unreadable",
}
#: What may be missing from this disk, until yak-zk holds it for whole.
SUSPICIONS: Final = frozenset({"torn", "damaged", "unclean"})
_MENDED: Final = {
    "storage_goes_on": frozenset({"refused"}),
    "flushed_again": frozenset({"unflushed"}),
    "checkpoint": frozenset({"no_checkpoint"}),
    "whole_again": SUSPICIONS,
}
_HOW: Final = {
    "storage_goes_on": "the disk takes the log again",
    "flushed_again": "the disk takes the partition files again",
    "checkpoint": "one was made",
}


class Findings:
    """See the module.  listed: oldest first."""

    def __init__(self) -> None:
        self.listed: list[Finding] = []
        self._open: dict[str, Finding] = {}

    def is_open(self, *kinds: str) -> bool:
        """Whether something of these kinds is not mended yet."""
        return not self._open.keys().isdisjoint(kinds)

    def hear(self, time_ms: int, event: str, fields: dict[str, Any]) -> None:
        """An event of the broker's story."""
        reason = str(fields.get("reason", ""))
        if event in _MENDED:
            how = _HOW.get(event, reason)
            for kind in _MENDED[event] & self._open.keys():
                self._mend(kind, time_ms, how)
        elif event in _FOUND:
            self._find(_FOUND[event], time_ms, reason)
        elif event == "not_whole":
            self._find(str(fields["state"]), time_ms, reason)
        elif event == "started":
            if fields.get("state", "whole") != "whole":  # yak-zk's has none
                self._find(str(fields["state"]), time_ms, reason)
            if fields.get("kept") and not self.is_open("damaged", "kept"):
                what = "files that were damaged once: look into them, then delete them: "
                self._find("kept", time_ms, what + ", ".join(fields["kept"]))

    def _find(self, kind: str, time_ms: int, what: str) -> None:
        found = self._open.get(kind)
        if found is None:
            self._make_room()
            found = self._open[kind] = Finding(time=time_ms, kind=kind, what="", times=0)
            self.listed.append(found)
        found.times += 1
        if what not in found.what:
            parts = [found.what, what] if found.what else [what]
            found.what = "; then: ".join(parts)[:MAX_FINDING_CHARS]

    def _mend(self, kind: str, time_ms: int, how: str) -> None:
        found = self._open.pop(kind)
        found.mended, found.how = time_ms, how

    def _make_room(self) -> None:
        """Kinds are fewer than MAX_FINDINGS, so that one is mended."""
        if len(self.listed) >= MAX_FINDINGS:
            self.listed.remove(
                min(
                    (one for one in self.listed if one.mended is not None),
                    key=lambda one: one.mended or 0,
                )
            )
