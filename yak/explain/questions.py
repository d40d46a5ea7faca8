"""The questions that can be explained, each with what it keeps of a log and how it is told.

    question = Question("offset", topic="orders", partition=0, offset=42)
    seen = question.look()          for each log: seen.begin(state), seen.see(op) for all of it
    explain(question, facts)        the answer and its chain; raises Unexplained

Not here: how a question is read from a command line (commands/explain.py).
"""

from __future__ import annotations

from typing import Literal, assert_never

import msgspec

from yak.explain.facts import Explanation, Facts, Seen
from yak.explain.why_client import ClientSeen, explain_client
from yak.explain.why_group import GroupSeen, explain_group
from yak.explain.why_leader import Leads, explain_isr, explain_leader
from yak.explain.why_offset import OffsetSeen, explain_offset
from yak.explain.why_topic import TopicSeen, explain_topic


class Question(msgspec.Struct, frozen=True):
    """name: of a topic, group or client."""

    kind: Literal["leader", "isr", "topic", "group", "offset", "client"]
    name: str = ""
    partition: int = 0
    offset: int = 0

    def look(self) -> Seen:
        """What looks through one log for it."""
        match self.kind:
            case "leader" | "isr":
                return Leads()
            case "topic":
                return TopicSeen(self.name)
            case "group":
                return GroupSeen(self.name)
            case "offset":
                return OffsetSeen(self.name, self.partition, self.offset)
            case "client":
                return ClientSeen(self.name)
            case _:
                assert_never(self.kind)


def explain(question: Question, facts: Facts) -> Explanation:
    """Raises Unexplained where it is about something that is not there."""
    match question.kind:
        case "leader":
            return explain_leader(facts)
        case "isr":
            return explain_isr(facts)
        case "topic":
            return explain_topic(question.name, facts)
        case "group":
            return explain_group(question.name, facts)
        case "offset":
            return explain_offset(question.name, question.partition, question.offset, facts)
        case "client":
            return explain_client(question.name, facts)
        case _:
            assert_never(question.kind)
