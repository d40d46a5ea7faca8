"""Copying the log: the follower's part.  The leader's is replication.py.

F pulls from the leader L of epoch E, over one link at a time:

    dial ─▶ follow ─▶ cut to the common prefix ─▶ replicate, replicate, …
                  └─▶ L's log begins later: a full copy, piece by piece ─▶ start anew

    truncate*        the log is cut to the common prefix (log.py), never below C
    verified_commit  L's C is taken only after truncation was agreed on this link
    ack_durable      what was copied is acknowledged once the disk has all of it
    keep_up          nothing more is asked for while too much that is committed is not applied
    fence_follower   an answer of another epoch is no answer

It does not decide whom to follow (node.py), nor apply.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET

from yak import messages as m
from yak.core import events as e
from yak.core.log import Log

#: Operations that are committed and not applied here, at 0.7 KB each; with more, this follower asks
#: for nothing, so that one that is far behind holds 14 MB of them, not a whole log.  It is ten
#: turns' work: a follower that can apply falls silent for a fraction of the replica lag.
MAX_UNAPPLIED: Final = 20_000
#: A link that was lost is dialled again after this long.
REDIAL_S = 0.05
#: After the disk refused what was copied; the leader would send the same again at once.
DISK_AGAIN_S = 1.0


class Follower:
    """Follows the leader of epoch `epoch`, over one link at a time."""

    def __init__(
        self,
        me: int,
        inc: str,
        view: m.ClusterView,
        log: Log,
        link: int,
        out: list[e.Effect],
        now: float,
    ) -> None:
        assert view.leader is not None
        self.me = me
        self.inc = inc
        self.epoch = view.epoch
        self.leader = view.leader
        self.view = view
        self.log = log
        self.out = out
        #: The link that counts; news of others is dropped.
        self.link = link
        #: Truncation was agreed on this link.
        self.agreed = False
        #: A full copy comes over this link.
        self.copying = False
        #: The leader's C; never taken before truncation was agreed.
        self._leader_committed = 0
        #: When the leader was last heard; a new follower gives it a full session.
        self.heard = now
        #: Why it was lost last, while nothing has come since: a leader that is gone is dialled many
        #: times a second, which is one piece of news.
        self._lost_because = ""
        #: When this link was dialled.
        self._dialled = now
        self._redial_at = float("inf")
        #: The leader waits for our `replicate`, which waits for our disk.
        self._owes_replicate = False
        self._dial()

    @property
    def committed(self) -> int:
        """C, as far as this log durably reaches."""
        return min(self._leader_committed, self.log.durable)

    @property
    def poll_ms(self) -> int:
        """A poll ends well within the replica lag, or an idle follower would look dead to the
        leader; and well within the session, or an idle leader would look dead to its follower."""
        settings = self.view.settings
        return max(1, min(settings.replica_lag_ms, settings.session_ms) // 3)

    def _dial(self) -> None:
        info = next(b for b in self.view.brokers if b.id == self.leader)
        self._redial_at = float("inf")
        self.out.append(e.Dial(self.link, self.leader, info.host, info.port))

    def view_changed(self, view: m.ClusterView) -> None:
        assert view.epoch == self.epoch
        self.view = view

    def link_up(self, link: int) -> None:
        if link != self.link:
            return
        self.out.append(e.SendFollow(link, self.epoch, list(self.log.epochs), self.log.next))

    def link_down(self, link: int, reason: str, now: float) -> None:
        if link != self.link:
            return
        self.agreed = self._owes_replicate = self.copying = False
        self._redial_at = now + REDIAL_S
        if reason != self._lost_because:
            self._lost_because = reason
            self.out.append(e.Tell("leader_link_lost", {"leader": self.leader, "reason": reason}))

    def disk_refused(self, reason: str, now: float) -> None:
        """What was copied is not in the log: begin anew, a little later."""
        self.out.append(e.Undial(self.link))
        self.link_down(self.link, reason, now)
        self._redial_at = now + DISK_AGAIN_S

    def follow_answered(self, event: e.FollowAnswered, committed: int, now: float) -> None:
        """Cut our log to the common prefix, then ask for what comes next."""
        if event.link != self.link:
            return
        answer = event.answer
        if answer is None or answer.epoch != self.epoch:
            why = event.error or f"it answers for epoch {answer.epoch if answer else '?'}"
            self.out.append(e.Undial(self.link))
            self.link_down(self.link, f"follow was refused: {why}", now)
            return
        self.heard = now
        self._lost_because = ""
        if answer.copy is not UNSET:
            self._begin_copy(answer.copy, committed)
        else:
            assert answer.truncate_to is not UNSET
            assert answer.sum is not UNSET
            self._cut(answer.truncate_to, answer.sum, committed)

    def _begin_copy(self, offer: m.CopyOffer, committed: int) -> None:
        """The leader's log begins after ours ends: all that is here will be replaced."""
        if offer.index < committed:
            self._halt(f"offers a copy up to {offer.index}", committed)
            return
        self.copying = True
        self.out.append(e.FetchCopy(self.link, self.epoch, offer))
        fields = {"epoch": self.epoch, "leader": self.leader, "next": self.log.next}
        self.out.append(e.Tell("copying", {**fields, "checkpoint": offer.index}))

    def _halt(self, what: str, committed: int) -> None:
        self.out.append(
            e.Halt(
                f"leader {self.leader} of epoch {self.epoch} {what}, but {committed} is committed "
                f"here and the log ends before {self.log.next}.  Was that election ordered (`yak "
                "zk status`)? Then start this broker again, with an empty --data-dir if it stops "
                "here once more. Else keep the files: what was committed has been lost somewhere"
            )
        )

    def _cut(self, truncate_to: int, sum_below: str, committed: int) -> None:
        """Cut our log to what it shares with the leader's, and ask for what comes next."""
        if not committed < truncate_to <= self.log.next:
            self._halt(f"asks to cut the log to {truncate_to}", committed)
            return
        cut = self.log.next - truncate_to
        self.agreed = True
        self.out.append(e.Truncate(truncate_to, sum_below))
        self.log.truncate(truncate_to)
        self.out.append(
            e.Tell(
                "following",
                {"epoch": self.epoch, "leader": self.leader, "next": self.log.next, "cut": cut},
            )
        )
        self._acknowledge()

    def copy_heard(self, link: int, now: float) -> None:
        if link == self.link and self.copying:
            self.heard = now

    def copy_done(self, event: e.CopyDone, now: float) -> None:
        """All of it is here: from the next start on it is what this broker holds."""
        if event.link == self.link and self.copying:
            self.heard = now
            self.out.append(e.Install(event.index))

    def copied(self, event: e.Copied, now: float) -> None:
        """The leader's next operations, or only its commit index."""
        answer = event.answer
        if event.link != self.link or not self.agreed or answer.epoch != self.epoch:
            return
        if answer.from_ != self.log.next:
            self.out.append(e.Tell("late_copy_dropped", {"first": answer.from_}))
            return
        self.heard = now
        if event.ops:
            self.out.append(e.AppendCopied(event))
            for op in event.ops:
                self.log.append(op)
        self._leader_committed = max(self._leader_committed, answer.committed)
        self._owes_replicate = True

    def keep_up(self, applied: int) -> None:
        """The disk may have moved, or State: acknowledge once both are where they should be."""
        if (
            self._owes_replicate
            and self.log.durable == self.log.next - 1
            and self.committed - applied <= MAX_UNAPPLIED
        ):
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._owes_replicate = self.log.durable < self.log.next - 1
        if not self._owes_replicate:
            self.out.append(e.SendReplicate(self.link, self.epoch, self.log.next, self.poll_ms))

    def tick(self, now: float, new_link: int) -> bool:
        """Dial again where the link is lost or silent.  True if `new_link` was taken."""
        if now < self.next_deadline():
            return False
        self.out.append(e.Undial(self.link))
        self.link, self.agreed, self._owes_replicate = new_link, False, False
        self.copying = False
        self._dialled = now
        self._dial()
        return True

    def next_deadline(self) -> float:
        if self._owes_replicate:  # our own disk is slow; the leader is not silent
            return self._redial_at
        silent_at = max(self.heard, self._dialled) + self.view.settings.session_ms / 1000
        return min(self._redial_at, silent_at)

    def cut_off(self, now: float) -> bool:
        """Whether the leader has not been heard for longer than the session time-out."""
        return now - self.heard > self.view.settings.session_ms / 1000
