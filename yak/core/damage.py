"""What becomes of a broker that has found one of its files damaged: when it may begin anew.

Its files are whole again only after a full copy; until then it refuses what is damaged, and serves
the rest.  But what it erases for that, somebody else must have, and acknowledgements should not
stop while the copy comes.  So, looked at in every turn:

    role                                        | step
    --------------------------------------------+------------------------------------------------
    none                                        | go on: who leads is not known
    follower that is missed, somebody on the way| go on, for DAMAGE_WAIT_S at most
    any other follower                          | begin anew: its leader has all that is committed
    leader without an heir                      | go on: nobody else may have it
    leader, an heir, somebody is on the way     | go on, for DAMAGE_WAIT_S at most
    leader, an heir, nobody is on the way       | resign; once the heir leads, this is a follower

* A follower is missed where it is in the ISR, and without it fewer whole members of the ISR live
  than must acknowledge (min_insync_replicas).  What it acknowledges is in its log: where that is
  what is damaged (`of_log`), it does not go on.
* An heir is another member of the ISR that yak-zk holds for live and whole, and that follows: it
  has all that is committed, and can be elected.  One that is torn may lack what is only here.
* On the way is who lives and is not a whole member of the ISR yet.  With it there are enough to
  acknowledge while this broker is filled; without it two in-sync brokers would become one, which
  is so as well if it does not come: but then as late as may be.
* Nobody is waited for where what is damaged is what a follower lacks (`needed`): from here it can
  never be filled, and from the heir it can.
* Without yak-zk nothing comes of resigning, and the leader goes on: nobody else could be elected.

It does not know files, nor what is in them.
"""

from __future__ import annotations

from yak.config import DAMAGE_WAIT_S
from yak.core import events as e
from yak.core.follower import Follower
from yak.core.replication import Leader, outside


class Damage:
    """out: where a story's event goes, and that this broker begins anew."""

    def __init__(self, out: list[e.Effect]) -> None:
        #: Of what was found first; "" while nothing was.
        self.reason = ""
        self._out = out
        self._needed = self._of_log = False
        self._begins_anew = False
        self._patience_until = float("inf")

    def found(self, event: e.FileDamaged, role: Leader | Follower | None, now: float) -> None:
        """Told once: each reader of it finds it again."""
        self._needed |= event.needed
        self._of_log |= event.of_log
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
        on_the_way = any(broker != role.me for broker, _ in outside(role.view))
        waits = not self._needed and now < self._patience_until and on_the_way
        if isinstance(role, Leader):
            return role.has_heir(now) and not waits
        waits = waits and not self._of_log and _is_missed(role)
        if not waits and not self._begins_anew:
            self._begins_anew = True
            self._out.append(e.Rebuild(self.reason))
        return False


def _is_missed(role: Follower) -> bool:
    """Whether nothing would be acknowledged without this member of the ISR."""
    view = role.view
    whole = {b.id for b in view.brokers if b.live and b.state == "whole"}
    others = whole.intersection(view.isr) - {role.me}
    return role.me in view.isr and len(others) < view.settings.min_insync_replicas
