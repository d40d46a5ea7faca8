"""`yak status`: each broker by its own word, and those that do not answer."""

from __future__ import annotations

import json
from types import TracebackType

import msgspec
import pytest
from click.testing import CliRunner, Result

from yak import messages as m
from yak.commands.status import status
from yak.config import Settings
from yak.model import Address
from yak.net.reports import BrokerReport, ClusterReport


def _word(broker: int, role: str, log_end: int = 61) -> m.StatusAnswer:
    followers = [m.FollowerStatus(id=3, matched=60, lag_ms=7, in_sync=True)]
    return m.StatusAnswer(
        broker=broker,
        cluster="c",
        role=role,
        epoch=3,
        leader=2,
        isr=[2, 3],
        state="whole",
        followers=followers if role == "leader" else [],
        log_start=1,
        log_end=log_end,
        committed=60,
        applied=60,
        lease_ms=900,
    )


class _Admin:
    """Answers as a cluster would in which broker 1 is dead."""

    leader: int | None = 2

    def __init__(self, bootstrap: str, *, client: str) -> None:
        self.bootstrap = bootstrap

    def __enter__(self) -> _Admin:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def status(self) -> ClusterReport:
        brokers = [
            BrokerReport(id=1, address=Address("h", 1), error="cannot connect to h:1: refused"),
            BrokerReport(id=2, address=Address("h", 2), status=_word(2, "leader")),
            BrokerReport(id=3, address=Address("h", 3), status=_word(3, "follower", log_end=59)),
        ]
        return ClusterReport(cluster="c", epoch=3, leader=self.leader, isr=[2, 3], brokers=brokers)

    def coordinator(self, address: str) -> m.CoordinatorStatus:
        election = m.Election(time=5, epoch=3, leader=2, reason="lowest id that lives")
        return m.CoordinatorStatus(
            cluster="c",
            version=1,
            epoch=3,
            leader=2,
            isr=[2, 3],
            settings=Settings(),
            sessions=[],
            elections=[election],
        )


def _run(monkeypatch: pytest.MonkeyPatch, *args: str) -> Result:
    monkeypatch.setattr("yak.commands.status.Admin", _Admin)
    return CliRunner().invoke(status, args, standalone_mode=False)


def test_a_table_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch).stdout.splitlines() == [
        "cluster c  epoch 3  broker 2 leads  in sync: 2, 3",
        "broker  address  role      epoch  in sync  log end  committed  behind  state",
        "     1  h:1      -             -  no             -          -  -       "
        "down: cannot connect to h:1: refused",
        "     2  h:2      leader        3  yes           61         60  -       whole",
        "     3  h:3      follower      3  yes           59         60  7 ms    whole",
    ]


def test_what_was_found_on_a_disk_is_shown_below(monkeypatch: pytest.MonkeyPatch) -> None:
    second = 1763800000000
    mended = m.Finding(
        time=second, kind="torn", what="2 bytes", mended=second + 2999, how="in sync"
    )
    now = m.Finding(time=second, kind="refused", what="No space left", times=3)
    word = msgspec.structs.replace(_word(3, "follower"), found=[mended, now])
    report = ClusterReport(
        cluster="c", epoch=3, leader=2, isr=[2, 3],
        brokers=[BrokerReport(id=3, address=Address("h", 3), status=word)],
    )  # fmt: skip
    monkeypatch.setattr(_Admin, "status", lambda _: report)
    assert _run(monkeypatch).stdout.splitlines()[3:] == [
        "broker 3 found at 2025-11-22T08:26:40Z: torn: 2 bytes",
        "    mended at 2025-11-22T08:26:42Z: in sync",
        "broker 3 found at 2025-11-22T08:26:40Z: refused (3 times): No space left",
        "    not mended yet",
    ]
    shown = json.loads(_run(monkeypatch, "--json").stdout)["brokers"][0]["status"]["found"]
    assert [one["kind"] for one in shown] == ["torn", "refused"]


def test_yak_zk_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "why: lowest id that lives" in _run(monkeypatch, "--zk", "h:9").stdout


def test_json_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = json.loads(_run(monkeypatch, "--json").stdout)
    assert (shown["leader"], shown["epoch"], shown["isr"]) == (2, 3, [2, 3])
    assert [b["address"] for b in shown["brokers"]] == ["h:1", "h:2", "h:3"]
    assert shown["brokers"][0]["status"] is None
    assert shown["brokers"][1]["status"]["committed"] == 60


def test_no_leader_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch).return_value == 0
    monkeypatch.setattr(_Admin, "leader", None)
    result = _run(monkeypatch)
    assert result.return_value == 1
    assert "nobody leads" in result.stdout
