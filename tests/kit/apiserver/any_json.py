"""Any values of JSON, some with the names of fields that the API reads."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

text: st.SearchStrategy[str] = st.text(st.characters(codec="utf-8"), max_size=12)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(-1, 1), text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                text,
                st.sampled_from(
                    ["metadata", "spec", "name", "labels", "data", "sinks", "status", "finalizers"]
                ),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)
