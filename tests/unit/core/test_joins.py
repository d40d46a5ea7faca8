"""The rules of joining, each as a short story: what was known, who comes, what is known."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.support.documents import NEW, a_join, agreed, alive, decide, take_in
from yak import messages as m
from yak.core import joins
from yak.core.document import Present, Replica
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


def test_each_start_of_a_disk_is_a_newer_run_and_the_same_process_may_say_so_again() -> None:
    document = agreed()
    for inc, run in (("i2.1", 1), ("i2.1", 1), ("i2.2", 2), ("i2.3", 5), ("i2.3", 5)):
        document = take_in(document, a_join(2, inc=inc, run=run))
        assert (document.brokers[2].inc, document.brokers[2].run) == (inc, run)
    assert document.suspects == {}


@pytest.mark.parametrize("run", [1, 6, 7])
def test_older_copy_a_disk_that_comes_with_a_run_that_was_heard_of_is_not_whole(run: int) -> None:
    document = take_in(agreed(leader=None), a_join(1, inc="i1.7", run=7))
    document = take_in(document, a_join(1, inc="i1.8", run=run))
    assert document.suspects[1].state == "unclean"
    assert f"older copy: this is run {run} of it, and yak-zk has heard of run 7" in (
        document.suspects[1].why
    )
    assert decide(document, alive(1)).leader is None
    assert decide(document, alive(1, 2)).leader == 2


def test_older_copy_an_orderly_end_makes_a_copy_of_that_run_older() -> None:
    document = take_in(agreed(), a_join(2, inc="i2.3", run=3))
    document = joins.ended(document, 2, 4)
    assert take_in(document, a_join(2, inc="i2.5", run=5)).suspects == {}
    assert take_in(document, a_join(2, inc="i2.4", run=4)).suspects[2].state == "unclean"


def test_older_copy_counts_on_so_that_the_newer_one_is_not_whole_after_it() -> None:
    document = take_in(agreed(), a_join(2, inc="new", run=7))
    document = take_in(document, a_join(2, inc="old", run=3))
    document = replace(document, suspects={})  # it has caught up
    assert document.brokers[2].run == 8, "which yak-zk tells it"
    assert take_in(document, a_join(2, inc="old", run=8)).suspects == {}
    assert take_in(document, a_join(2, inc="old again", run=9)).suspects == {}
    assert take_in(document, a_join(2, inc="new again", run=8)).suspects[2].state == "unclean"


def test_older_copy_is_no_better_for_being_torn_and_no_worse_for_being_damaged() -> None:
    document = take_in(agreed(), a_join(2, inc="i2.7", run=7))
    for state, becomes in (("torn", "unclean"), ("damaged", "damaged")):
        copied = take_in(document, a_join(2, inc="i2.8", run=7, state=state))
        assert copied.suspects[2].state == becomes


def test_a_run_counts_for_its_own_disk_and_where_it_is_said() -> None:
    document = take_in(agreed(isr=(1, 3)), a_join(2, inc="i2.7", run=7))
    other = take_in(document, a_join(2, inc="x", disk="dX", run=1))
    assert other.suspects == {}
    assert (other.brokers[2].disk, other.brokers[2].run) == ("dX", 1)
    assert take_in(document, a_join(2, inc="x", run=0)).suspects == {}
