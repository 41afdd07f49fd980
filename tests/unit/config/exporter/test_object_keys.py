"""Keys of objects: what tells two of them apart, and what of it makes them rivals for a name."""

from __future__ import annotations

import msgspec

from relay.config.exporter.load_result import ObjectKey


def test_policies_of_two_groups_are_two_objects_of_one_name() -> None:
    one, other = (
        ObjectKey("kubernetes", "", "ExportPolicy", "acme", "shop", "web", group)
        for group in ("telemetry.datumapis.com", "telemetry.miloapis.com")
    )
    assert one != other
    assert one.id == other.id


def test_a_key_of_a_relay_of_an_earlier_version_has_no_group() -> None:
    key = ObjectKey("kubernetes", "", "Exporter", "acme", "shop", "web")
    text = msgspec.json.encode(key)
    document = msgspec.json.decode(text)
    del document["group"]
    assert msgspec.json.decode(msgspec.json.encode(document), type=ObjectKey) == key
