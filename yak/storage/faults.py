"""What can go wrong with files, as the callers of storage must tell it apart.

    StorageError   the disk refused just now (full, an I/O error); what was whole stays whole
    Trimmed        what is asked for was freed
    Damaged        bytes are not what was written, and valid ones follow: nothing may be cut
    SyncFailed     what was written may be lost, whatever a later sync says: stop at once
    SumMismatch    two logs that should agree at a point do not: corruption, never "continue"

Where a process cannot go on, it is a `yak.errors.Fatal`; SyncFailed is one.
"""

from __future__ import annotations

from yak.errors import Fatal


class StorageError(Exception):
    """The disk refused.

    next_index: the log's next index after it was cut back to its last whole operation, where
    the log was written to.  damaged: it gave other bytes back than were written.
    """

    def __init__(
        self, message: str, next_index: int | None = None, *, damaged: bool = False
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_index = next_index
        self.damaged = damaged


class Trimmed(Exception):  # noqa: N818 -- it says what is the case
    """What is asked for was freed; what is left begins at `start`."""

    def __init__(self, where: str, offset: int, start: int) -> None:
        self.message = f"the log of {where} begins at {start}, not {offset}"
        self.start = start
        super().__init__(self.message)


class Damaged(Exception):  # noqa: N818 -- it says what was found
    """A file is not what was written to it.

    path and position (bytes from its beginning): where.  what: what was found there.
    """

    def __init__(self, path: str, position: int, what: str) -> None:
        super().__init__(f"{path}, byte {position}: {what}")
        self.path = path
        self.position = position
        self.what = what


class SyncFailed(Fatal):
    """Making written bytes durable failed.  It is never tried again: the process must stop."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(
            f"{path}: sync failed: {error.strerror or error}; what was written since the last one "
            "may be lost: look at the disk, then start this process again"
        )


class SumMismatch(Exception):  # noqa: N818 -- it says what was found
    """The running sum below `index` is `ours` here and `theirs` at the leader."""

    def __init__(self, index: int, ours: str, theirs: str) -> None:
        super().__init__(
            f"the logs disagree below operation {index}: the running sum is {ours} here and "
            f"{theirs} at the leader; one of the two was damaged after it was written"
        )
        self.index = index
        self.ours = ours
        self.theirs = theirs
