"""The rules of joining, each as a short story: what was known, who comes, what is known."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.documents import NEW, a_join, agreed, alive, decide, take_in
from yak import messages as m
from yak.core import joins
from yak.core.document import Document, Present, Replica
from yak.errors import Refused, is_retriable

# -- who may come ---------------------------------------------------------------------------------


def test_bootstrap_takes_empty_directories_only() -> None:
    with pytest.raises(Refused, match=r"holds operations up to index 9.*empty --data-dir") as e:
        take_in(NEW, a_join(1, cluster=None, epoch=0, end=(0, 9)))
    assert e.value.name == "CLUSTER_MISMATCH"


def test_a_directory_with_operations_but_no_cluster_is_refused_by_an_old_cluster_too() -> None:
    with pytest.raises(Refused, match="empty --data-dir"):
        take_in(agreed(), a_join(4, cluster=None))


def test_a_member_of_this_very_cluster_may_come_back_before_the_first_epoch() -> None:
    empty = a_join(1, end=(0, 0), epoch=0)
    assert 1 in take_in(NEW, empty).brokers


def test_an_unknown_cluster_is_refused_with_both_ids() -> None:
    with pytest.raises(Refused, match=r"cluster X.*cluster C") as e:
        take_in(agreed(), a_join(1, cluster="X"))
    assert e.value.name == "CLUSTER_MISMATCH"


def test_a_broker_from_a_later_epoch_shows_that_the_document_is_an_old_copy() -> None:
    with pytest.raises(Refused, match=r"epoch 4.*only 3"):
        take_in(agreed(), a_join(2, epoch=4))
    with pytest.raises(Refused, match=r"epoch 5.*only 3"):
        take_in(agreed(), a_join(2, end=(5, 1)))


def test_ids_are_positive() -> None:
    with pytest.raises(Refused, match="positive"):
        take_in(agreed(), a_join(0))


def test_other_disk_is_refused_while_the_id_lives_with_both_disks() -> None:
    with pytest.raises(Refused, match=r"disk d2.*disk dX") as e:
        take_in(agreed(), a_join(2, disk="dX"), Present("i2.1", "d2", (3, 9)))
    assert e.value.name == "CLUSTER_MISMATCH"


def test_other_disk_has_to_wait_for_one_that_may_be_dead() -> None:
    live = Present("i2.1", "d2", (3, 9))
    with pytest.raises(Refused, match=r"disk d2.*session.*disk dX") as e:
        take_in(agreed(), a_join(2, disk="dX"), live, connected=False)
    assert is_retriable(e.value.name)


def test_the_same_disk_may_join_again_while_its_session_lives() -> None:
    document = take_in(agreed(), a_join(2, inc="i2.2"), Present("i2.1", "d2", (3, 9)))
    assert document.suspects == {}


# -- who is not whole ----------------------------------------------------------------------------


def test_other_disk_an_in_sync_member_that_comes_with_another_is_not_whole() -> None:
    document = take_in(agreed(), a_join(2, disk="dX", cluster=None, end=(0, 0), epoch=0))
    assert document.suspects[2].state == "damaged"
    assert document.isr[1] == Replica(2, "d2")
    assert document.brokers[2].disk == "dX"
    back = take_in(document, a_join(2, disk="d2"))
    assert back.suspects[2].state == "damaged", "its old disk missed what the new one took part in"


def test_a_wiped_broker_outside_the_isr_is_simply_new() -> None:
    document = take_in(agreed(isr=(1, 2)), a_join(3, disk="dX", cluster=None, end=(0, 0), epoch=0))
    assert document.suspects == {}
    assert document.isr_ids == [1, 2]


@pytest.mark.parametrize("state", ["torn", "unclean", "damaged"])
def test_not_whole_is_recorded_and_outlives_a_restart(state: m.LogState) -> None:
    document = take_in(agreed(), a_join(2, state=state))
    again = take_in(document, a_join(2, inc="i2.2"))
    assert (again.suspects[2].state, again.suspects[2].inc) == (state, "i2.2")


def test_not_whole_the_worst_that_was_reported_stays() -> None:
    document = take_in(agreed(), a_join(2, state="unclean"))
    assert take_in(document, a_join(2, state="torn")).suspects[2].state == "unclean"
    assert take_in(document, a_join(2, state="damaged")).suspects[2].state == "damaged"


# -- older copies ---------------------------------------------------------------------------------


def came(document: Document, *lineage: str, broker: int = 2, **more: Any) -> Document:
    """It joins, as the newest of these runs of its disk."""
    return take_in(document, a_join(broker, inc=lineage[-1], lineage=lineage, **more))


def test_each_start_of_a_disk_is_known_and_the_same_process_may_say_so_again() -> None:
    document = agreed()
    for lineage in (("a",), ("a",), ("a", "b"), ("b",), ("b", "c", "d", "e"), ("e",)):
        document = came(document, *lineage)
        assert (document.brokers[2].inc, document.brokers[2].mark) == (lineage[-1], lineage[-1])
    assert document.suspects == {}


def test_a_start_that_yak_zk_recorded_and_the_disk_never_heard_of_it_is_known() -> None:
    document = came(came(agreed(), "a"), "a", "b")
    assert came(document, "a", "b", "c").suspects == {}


@pytest.mark.parametrize("lineage", [("c",), ("a", "c"), ("a", "c", "d", "e", "f", "g")])
def test_older_copy_a_disk_that_knows_nothing_of_the_last_run_is_not_whole(
    lineage: tuple[str, ...],
) -> None:
    """However often it has started since."""
    document = came(agreed(leader=None), "a", broker=1)
    document = came(document, "a", "b", broker=1)
    document = came(document, *lineage, broker=1)
    assert document.suspects[1].state == "unclean"
    assert "older copy: it knows nothing of run b, of which yak-zk" in document.suspects[1].why
    assert decide(document, alive(1)).leader is None
    assert decide(document, alive(1, 2)).leader == 2


def test_older_copy_an_orderly_end_makes_a_copy_of_that_run_older() -> None:
    document = joins.ended(came(agreed(), "a"), 2, "a.ended")
    assert came(document, "a", "a.ended", "b").suspects == {}
    assert came(document, "a", "b").suspects[2].state == "unclean"


def test_an_end_without_a_mark_leaves_the_one_that_was_heard() -> None:
    assert joins.ended(came(agreed(), "a"), 2, "").brokers[2].mark == "a"


def test_older_copy_is_the_newest_then_and_the_newer_one_is_not_whole_after_it() -> None:
    document = came(agreed(), "a", "new")
    document = came(document, "a", "old")
    document = replace(document, suspects={})  # it has caught up
    assert came(document, "old").suspects == {}
    assert came(document, "old", "old again").suspects == {}
    assert came(document, "new", "new again").suspects[2].state == "unclean"


def test_older_copy_is_no_better_for_being_torn_and_no_worse_for_being_damaged() -> None:
    document = came(agreed(), "a")
    for state, becomes in (("torn", "unclean"), ("damaged", "damaged")):
        assert came(document, "b", state=state).suspects[2].state == becomes


def test_a_lineage_counts_for_its_own_disk_and_where_it_is_said() -> None:
    document = came(agreed(isr=(1, 3)), "a")
    other = came(document, "x", disk="dX")
    assert other.suspects == {}
    assert (other.brokers[2].disk, other.brokers[2].mark) == ("dX", "x")
    silent = take_in(document, a_join(2, inc="x"))
    assert (silent.suspects, silent.brokers[2].mark) == ({}, "")
