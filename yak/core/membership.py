"""Members of groups: how they come, are heard, fall silent and go.  Producers: producers.py.

* A member that is silent for its `session_ms` is logged as gone, and its partitions are shared
  out anew; what it had not acknowledged is delivered again to whoever then owns them.
* The leader expires nobody while it has no lease, and gives everybody a full session when it has
  one again, as a new leader does.
* Whoever changes a group's members, or topics that it wants, shares it out anew in the same
  breath.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET

from yak import messages as m
from yak.config import Limits
from yak.core import events as e
from yak.core import groups, ops
from yak.core.producers import Producers
from yak.core.service import Service, check_name, too_many_groups, unknown_member
from yak.core.sessions import Sessions
from yak.core.state import Group
from yak.core.topics import Topics
from yak.errors import Refused
from yak.model import Now


class Membership:
    """The leader's book of who is here; liveness in memory, the rest in the log."""

    def __init__(
        self, service: Service, topics: Topics, limits: Limits, *, auto_create: bool, now: Now
    ) -> None:
        self.service = service
        self.topics = topics
        self.pending = service.pending
        self.state = service.state
        self.tail = service.tail
        self.out = service.out
        self.limits = limits
        self.auto_create = auto_create
        self.producers = Producers(service, limits, now)
        self._members: Sessions[tuple[str, str]] = Sessions()
        #: The lease as it was at the last look; it may have lapsed and come back since.
        self._leased_until = float("-inf")
        for name, group in self.state.groups.items():
            for member, info in group.members.items():
                self._members.open((name, member), info.session_ms / 1000, now.mono)

    # -- register --------------------------------------------------------------------------------

    def register(self, asked: e.Asked, request: m.Register, now: Now) -> None:
        """A producer or a member comes; topics that do not exist are created."""
        check_name("client", request.client)
        topics = list(dict.fromkeys(request.topics))
        if request.role == "producer":
            self._register_producer(asked, request, topics, now)
            return
        if request.group is UNSET:
            raise Refused("INVALID_REQUEST", "`group` is missing: a consumer registers in a group")
        check_name("group", request.group)
        self._register_member(asked, request, request.group, topics, now)

    def _create(self, topics: Iterable[str], now: Now) -> None:
        for topic in topics:
            self.topics.write(topic, self.topics.default_partitions, {}, now)

    def _register_producer(
        self, asked: e.Asked, request: m.Register, topics: list[str], now: Now
    ) -> None:
        missing = self.topics.missing(topics, auto_create=self.auto_create)
        self.producers.check_room()
        self.service.admit(now)
        self._create(missing, now)
        self.share_out_topics(missing, now)
        number = self.producers.register(request.client, topics, now)
        known = {t: self.tail.topics[t] for t in topics}
        answer = m.ProducerAnswer(
            producer=number,
            session_ms=self.limits.producer_session_ms,
            topics={name: m.TopicSize(partitions=one.partitions) for name, one in known.items()},
            topic_ids={name: one.topic_id for name, one in known.items()},
        )
        self.pending.when(self.pending.last, asked.conn, request, answer, now)

    def _register_member(
        self, asked: e.Asked, request: m.Register, name: str, topics: list[str], now: Now
    ) -> None:
        group = self.tail.group(name)
        if isinstance(request.member, str) and request.member not in group.members:
            raise Refused("UNKNOWN_MEMBER", unknown_member(request.member, name))
        missing = self.topics.missing(topics, auto_create=self.auto_create)
        known = None if request.member is UNSET else group.members.get(request.member)
        if known is not None and not missing and self._only_renews(request, name, topics):
            self._renew(asked, request, name, now)
            return
        if known is None:
            self._check_room(name, group)
        self.service.admit(now)
        self._create(missing, now)
        member = self._member_id(request)
        self.pending.append(
            ops.Register,
            now,
            role="consumer",
            client=request.client,
            topics=topics,
            group=name,
            member=member,
            session_ms=request.session_ms,
        )
        self._members.open((name, member), request.session_ms / 1000, now.mono)
        affected = {g for t in missing for g in groups.subscribers(self.tail, t)}
        if known is None or sorted(known.topics) != sorted(topics):
            affected.add(name)
        self.share_out(affected, now)
        self.pending.when(
            self.pending.last,
            asked.conn,
            request,
            lambda: self._member_answer(name, member, request.session_ms),
            now,
        )

    def _member_id(self, request: m.Register) -> str:
        """The one that renews, or a new one: unique, as no two operations have one index."""
        if isinstance(request.member, str):
            return request.member
        return f"{request.client or 'member'}-{self.pending.log.next}"

    def _only_renews(self, request: m.Register, name: str, topics: list[str]) -> bool:
        """Whether a member, as it is committed, says nothing new."""
        member = self.state.group(name).members.get(str(request.member))
        return member is not None and (
            (sorted(member.topics), member.client, member.session_ms)
            == (sorted(topics), request.client, request.session_ms)
        )

    def _renew(self, asked: e.Asked, request: m.Register, name: str, now: Now) -> None:
        """Nothing to log; but what is not logged needs the lease."""
        assert isinstance(request.member, str)
        self.service.leased(now)
        self._members.touch((name, request.member), now.mono)
        answer = self._member_answer(name, request.member, request.session_ms)
        self.service.reply_leased(asked, answer, now)

    def _check_room(self, name: str, group: Group) -> None:
        if name not in self.tail.groups and len(self.tail.groups) >= self.limits.max_groups:
            raise Refused("OVERLOADED", too_many_groups(self.limits.max_groups))
        if len(group.members) >= self.limits.max_members:
            raise Refused(
                "OVERLOADED",
                f"group '{name}' has {len(group.members)} members; max_members is "
                f"{self.limits.max_members}. Let some end, or raise it on every broker",
            )

    def _member_answer(self, name: str, member: str, session_ms: int) -> m.Answer:
        group = self.state.group(name)
        assignment = group.assigned(member)
        return m.MemberAnswer(
            member=member,
            generation=group.generation,
            assignment=list(assignment),
            offsets=[(*tp, self.state.acked_by(name, tp)) for tp in assignment],
            topics=self._topics_of(name, member),
            session_ms=session_ms,
        )

    def _topics_of(self, name: str, member: str) -> dict[str, m.KnownTopic]:
        """Those of the member's topics that exist, by what is committed."""
        info = self.state.group(name).members.get(member)
        return {
            topic: m.KnownTopic(topic_id=found.topic_id, partitions=found.partitions)
            for topic in (info.topics if info else ())
            if (found := self.state.topics.get(topic)) is not None
        }

    # -- deregister ------------------------------------------------------------------------------

    def deregister(self, asked: e.Asked, request: m.Deregister, now: Now) -> None:
        if request.producer is not UNSET:
            self.producers.deregister(request.producer, now)
        else:
            name, member = group_and_member(request.group, request.member)
            self._known_member(name, member)
            self.service.admit(now)
            self._members.close((name, member))
            self.service.delivery.gone(self.state, name, member)
            self._log_gone(now, reason="asked", group=name, member=member)
            self.share_out([name], now)
        self.pending.when(self.pending.last, asked.conn, request, m.Done(), now)

    def _known_member(self, name: str, member: str) -> Group:
        group = self.tail.group(name)
        if member not in group.members:
            raise Refused("UNKNOWN_MEMBER", unknown_member(member, name))
        return group

    def _log_gone(self, now: Now, **fields: Any) -> None:
        self.pending.append(ops.Deregister, now, **fields)

    def delete_group(self, asked: e.Asked, request: m.DeleteGroup, now: Now) -> None:
        """Forget a group without members, and its offsets; an unknown one is gone already."""
        if self.tail.group(request.group).members:
            raise Refused("GROUP_NOT_EMPTY", f"group '{request.group}' still has members")
        if request.group not in self.tail.groups and request.group not in self.state.groups:
            self.service.reply_leased(asked, m.Done(), now)
            return
        self.service.admit(now)
        if request.group in self.tail.groups:
            self._log_gone(now, reason="deleted", group=request.group)
        self.service.delivery.forget_group(request.group)
        self.pending.when(self.pending.last, asked.conn, request, m.Done(), now)

    # -- heartbeats ------------------------------------------------------------------------------

    def heartbeat(self, asked: e.Asked, request: m.Heartbeat, now: Now) -> None:
        if request.producer is not UNSET:
            self.producers.heartbeat(asked, request.producer, now)
            return
        name, member = group_and_member(request.group, request.member)
        generation = request.generation
        if generation is UNSET:
            raise Refused("INVALID_REQUEST", "`generation` is missing")
        self.service.leased(now)
        self._known_member(name, member)
        self._members.touch((name, member), now.mono)
        if request.delivered is not UNSET:
            self.service.delivery.report(self.state, name, member, request.delivered)
        if self._release(name, member, generation, request.owned, now):
            # Answered with the new generation, so that the next owner need not wait for a beat.
            self.pending.when(
                self.pending.last,
                asked.conn,
                request,
                lambda: self._heartbeat_answer(name, member, generation),
                now,
                leased=True,  # it tells how the group stands, as any heartbeat's answer does
            )
            return
        answer = self._heartbeat_answer(name, member, generation)
        self.service.reply_leased(asked, answer, now)

    def _heartbeat_answer(self, name: str, member: str, generation: int) -> m.Answer:
        group = self.state.group(name)
        answer = m.HeartbeatAnswer(generation=group.generation)
        if generation < group.generation:
            answer.assignment = list(group.assigned(member))
            answer.offsets = [(*tp, self.state.acked_by(name, tp)) for tp in answer.assignment]
            answer.topics = self._topics_of(name, member)
        return answer

    def _release(self, name: str, member: str, generation: int, owned: Any, now: Now) -> bool:
        """Whether a report freed partitions that wait for their new owner."""
        group = self.tail.group(name)
        # No member was ever told of a generation that is not committed.
        generation = min(generation, self.state.group(name).generation)
        free = groups.released(group, member, generation, owned) if group.moving else set()
        frees = bool(free) and self.service.can_write(now)
        if frees:
            self.pending.append(
                ops.Assign,
                now,
                group=name,
                generation=group.generation + 1,
                owners=groups.after_release(group, free),
            )
        return frees

    # -- sharing out -----------------------------------------------------------------------------

    def share_out(self, names: Iterable[str], now: Now) -> None:
        """Give these groups a new generation."""
        for name in sorted(names):
            generation = self.tail.group(name).generation + 1
            self.pending.append(
                ops.Assign,
                now,
                group=name,
                generation=generation,
                owners=groups.shared_out(self.tail, name, generation),
            )

    def share_out_topics(self, topics: Iterable[str], now: Now) -> None:
        """These topics came, grew or went: whoever wants them shares out anew."""
        self.share_out({g for t in topics for g in groups.subscribers(self.tail, t)}, now)

    # -- silence ---------------------------------------------------------------------------------

    def tick(self, now: Now) -> None:
        """Log who has fallen silent, if this leader may judge that."""
        lapsed = now.mono >= self._leased_until
        self._leased_until = self.service.standing(now).lease_until
        if now.mono >= self._leased_until:
            return
        if lapsed:
            self.producers.restart(now)
            self._members.restart(now.mono)
        if not self.service.can_write(now):
            return
        self.producers.expire(now)
        self._expire_members(now)

    def _expire_members(self, now: Now) -> None:
        affected = set()
        for name, member in self._members.expired(now.mono):
            if member in self.tail.group(name).members:
                self._log_gone(now, reason="expired", group=name, member=member)
                affected.add(name)
                self.service.delivery.gone(self.state, name, member)
                self.out.append(e.Tell("member_expired", {"group": name, "member": member}))
        self.share_out(affected, now)


def group_and_member(group: Any, member: Any) -> tuple[str, str]:
    """Both fields, or the name of the missing one."""
    for name, value in (("group", group), ("member", member)):
        if value is UNSET:
            raise Refused(
                "INVALID_REQUEST", f"`{name}` is missing (or `producer`, to speak of a producer)"
            )
    return group, member
