"""Members of a group on raw connections, which beat by hand: each step can be looked at.

It knows section 4 of the protocol, and nothing of the code.
"""

from __future__ import annotations

from typing import Any

from tests.support.process import wait_until
from tests.support.wire import Fields, Wire

#: The longest: nobody here may be expelled by a stall of the machine.
SESSION_MS = 300_000


class Member:
    """A member of a group, as the brokers know it."""

    def __init__(self, wire: Wire, group: str, *topics: str, client: str = "c") -> None:
        self.wire = wire
        self.group = group
        answer = wire.ok(
            "register",
            role="consumer",
            group=group,
            topics=list(topics),
            client=client,
            session_ms=SESSION_MS,
        )
        self.member: str = answer["member"]
        self.take(answer)

    def take(self, answer: Fields) -> Fields:
        """What an answer says about generation, assignment and offsets."""
        self.generation: int = answer["generation"]
        if "assignment" in answer:
            self.assignment = sorted((topic, part) for topic, part in answer["assignment"])
            self.offsets = {(topic, part): at for topic, part, at in answer["offsets"]}
            assert sorted(self.offsets) == self.assignment, answer
        return answer

    @property
    def identity(self) -> Fields:
        return {"group": self.group, "member": self.member, "generation": self.generation}

    def beat(self, **fields: Any) -> Fields:
        """A heartbeat that takes what it is given."""
        return self.take(self.wire.ok("heartbeat", **{**self.identity, **fields}))

    def renew(self, *topics: str) -> Fields:
        answer = self.wire.ok(
            "register",
            role="consumer",
            group=self.group,
            member=self.member,
            topics=list(topics),
            session_ms=SESSION_MS,
        )
        return self.take(answer)

    def ack(self, topic: str, partition: int, offset: int, **fields: Any) -> None:
        given = {**self.identity, **fields}
        self.wire.ok("ack", offsets=[[topic, partition, offset]], **given)

    def leave(self) -> None:
        self.wire.ok("deregister", group=self.group, member=self.member)


def positions(wire: Wire, group: str) -> dict[tuple[str, int], Fields]:
    """The group's partitions."""
    found = wire.ok("group", group=group)["partitions"]
    return {(entry["topic"], entry["partition"]): entry for entry in found}


def settle(*members: Member) -> None:
    """Everybody beats until nobody is told anything new."""

    def look() -> bool:
        before = [(member.generation, member.assignment) for member in members]
        for member in members:
            member.beat(owned=member.assignment)
        return before == [(member.generation, member.assignment) for member in members]

    wait_until(look, "the group settles")
