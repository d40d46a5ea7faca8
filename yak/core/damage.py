"""What becomes of a broker that has found one of its files damaged: when it may begin anew.

Its files are whole again only after a full copy; until then it refuses what is damaged, and serves
the rest.  But what it erases for that, somebody else must have, and acknowledgements should not
stop while the copy comes.  So, looked at in every turn:

    role                                        | step
    --------------------------------------------+------------------------------------------------
    none                                        | go on: who leads is not known
    follower                                    | begin anew: its leader has all that is committed
    leader without an heir                      | go on: nobody else may have it
    leader, an heir, somebody is on the way     | go on, for DAMAGE_WAIT_S at most
    leader, an heir, nobody is on the way       | resign; once the heir leads, this is a follower

* An heir is another member of the ISR that yak-zk holds for live and whole, and that follows: it
  has all that is committed, and can be elected.  One that is torn may lack what is only here.
* On the way is who lives and is not a whole member of the ISR yet.  With it there are enough to
  acknowledge while this broker is filled; without it two in-sync brokers would become one.
* Nobody is waited for where what is damaged is what a follower lacks (`needed`): from here it can
  never be filled, and from the heir it can.
* Without yak-zk nothing comes of resigning, and the leader goes on: nobody else could be elected.

It does not know files, nor what is in them.
"""

from __future__ import annotations

from yak.config import DAMAGE_WAIT_S
from yak.core import events as e
from yak.core.follower import Follower
from yak.core.replication import Leader


class Damage:
    """out: where a story's event goes, and that this broker begins anew."""

    def __init__(self, out: list[e.Effect]) -> None:
        #: Of what was found first; "" while nothing was.
        self.reason = ""
        self._out = out
        self._needed = False
        self._begins_anew = False
        self._patience_until = float("inf")

    def found(self, event: e.FileDamaged, role: Leader | Follower | None, now: float) -> None:
        """Told once: each reader of it finds it again."""
        self._needed |= event.needed
        if self.reason:
            return
        self.reason = event.message
        self._patience_until = now + DAMAGE_WAIT_S
        alone = role is None or (isinstance(role, Leader) and not role.has_heir(now))
        self._out.append(e.Tell("file_damaged", {"reason": self.reason, "alone": alone}))

    def must_resign(self, role: Leader | Follower | None, now: float) -> bool:
        """Whether the leader has to; a follower begins anew."""
        if not self.reason or role is None:
            return False
        if isinstance(role, Follower):
            if not self._begins_anew:
                self._begins_anew = True
                self._out.append(e.Rebuild(self.reason))
            return False
        waits = not self._needed and now < self._patience_until and role.on_the_way
        return role.has_heir(now) and not waits
