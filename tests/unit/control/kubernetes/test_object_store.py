"""The store's limits, and changes that are none."""

from __future__ import annotations

from relay.control.kubernetes.object_store import ObjectChange, ObjectStore
from relay.control.kubernetes.objects import ApiObject


def made(name: str, content: bytes = b"{}", *, uid: str = "", status: bytes = b"") -> ApiObject:
    return ApiObject("n", name, uid or f"uid-{name}", "1", 1, content, status)


def test_a_status_alone_is_no_change() -> None:
    store = ObjectStore()
    store.apply("ADDED", made("a"))
    store.take(10)
    store.apply("MODIFIED", made("a", status=b"{}"))
    assert not store.has_changes
    assert store.objects["n", "a"].status == b"{}"


def test_what_comes_and_goes_is_no_change() -> None:
    store = ObjectStore()
    store.apply("ADDED", made("a"))
    store.apply("DELETED", made("a"))
    assert store.take(10) == ()


def test_another_object_of_the_same_name_is_two_changes() -> None:
    store = ObjectStore()
    old, new = made("a", uid="1"), made("a", uid="2")
    store.apply("ADDED", old)
    store.take(10)
    store.replace([new])
    assert store.take(10) == (ObjectChange(old, None), ObjectChange(None, new))


def test_a_list_keeps_what_is_listed_and_unusable() -> None:
    store = ObjectStore()
    store.replace([made("a"), made("b"), made("c")])
    store.take(10)
    store.replace([made("a")], keep=[("n", "b"), ("n", "never-seen")])
    assert store.take(10) == (ObjectChange(made("c"), None),)
    assert set(store.objects) == {("n", "a"), ("n", "b")}


def test_limits_refuse_the_new_and_keep_the_old() -> None:
    store = ObjectStore(objects_max=2, bytes_max=100)
    store.replace([made("a"), made("b"), made("c")])
    statistics = store.statistics()
    assert (statistics.objects, statistics.refused_names) == (2, ("n/c",))
    assert store.is_incomplete
    store.apply("DELETED", made("a"))
    store.apply("ADDED", made("c"))
    assert not store.is_incomplete
    store.apply("MODIFIED", made("b", b"x" * 200))
    assert store.objects["n", "b"] == made("b")
    assert store.statistics().bytes == 4


def test_one_namespace_takes_no_room_from_others() -> None:
    store = ObjectStore(bytes_max=800)
    store.replace([made(str(number), b"x" * 40) for number in range(5)])
    assert store.statistics().refused_names == ("n/2", "n/3", "n/4")
    store.apply("ADDED", ApiObject("other", "a", "uid", "1", 1, b"x" * 100))
    assert ("other", "a") in store.objects
    store.apply("DELETED", made("0"))
    store.apply("ADDED", made("2", b"x" * 40))
    assert store.statistics().refused_names == ("n/3", "n/4")


def test_a_resource_without_namespaces_has_all_the_room() -> None:
    store = ObjectStore(bytes_max=800)
    store.replace([ApiObject("", str(n), str(n), "1", 1, b"x" * 100) for n in range(8)])
    assert not store.is_incomplete


def test_a_refused_successor_is_not_its_predecessor() -> None:
    store = ObjectStore(bytes_max=100)
    store.replace([made("a", uid="1")])
    store.take(10)
    store.apply("MODIFIED", made("a", b"x" * 200, uid="2"))
    assert store.take(10) == (ObjectChange(made("a", uid="1"), None),)


def test_slices() -> None:
    store = ObjectStore()
    store.replace([made(str(number)) for number in range(25)])
    assert [len(store.take(10)) for _ in range(4)] == [10, 10, 5, 0]


def test_a_restored_store_has_no_changes_until_all_are_offered() -> None:
    store = ObjectStore()
    store.restore([made("a")])
    assert not store.has_changes
    store.offer_all()
    assert store.take(10) == (ObjectChange(None, made("a")),)
