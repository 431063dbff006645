"""Every key of a TOML document has a line."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shadow.contract.positions import KeyPath, find_lines

DOCUMENT = '''\
top = 1 # [not.a.table]
[a."b.c"] # x = 1
k = "va\\"lue # no" # y
d.e = 2026-01-01 10:00:00
f = [1,
 2, { x = 1, y = [ "]",
 '}' ] },

]
[[t]]
a = 1
[[t]]
a = """
foo "x"
b = 2 """
[t.u]
z = {}
'quo.ted' = """""quoted"""""
'''


def test_keys_elements_and_tables_are_found_whatever_stands_around_them() -> None:
    lines = find_lines(DOCUMENT)

    assert lines == {
        ("top",): 1,
        ("a",): 2,
        ("a", "b.c"): 2,
        ("a", "b.c", "k"): 3,
        ("a", "b.c", "d"): 4,
        ("a", "b.c", "d", "e"): 4,
        ("a", "b.c", "f"): 5,
        ("a", "b.c", "f", 0): 5,
        ("a", "b.c", "f", 1): 6,
        ("a", "b.c", "f", 2): 6,
        ("a", "b.c", "f", 2, "x"): 6,
        ("a", "b.c", "f", 2, "y"): 6,
        ("a", "b.c", "f", 2, "y", 0): 6,
        ("a", "b.c", "f", 2, "y", 1): 7,
        ("t",): 10,
        ("t", 0): 10,
        ("t", 0, "a"): 11,
        ("t", 1): 12,
        ("t", 1, "a"): 13,
        ("t", 1, "u"): 16,
        ("t", 1, "u", "z"): 17,
        ("t", 1, "u", "quo.ted"): 18,
    }


keys = st.text(
    st.characters(codec="ascii", categories=["L", "N"]) | st.sampled_from(". []{}=#'-_"), min_size=1, max_size=4
)
scalars = (
    st.integers()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab]}\"'\\,=#\n", max_size=5)
)
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _written(value: Any, gap: str) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_quoted(key)} = {_written(item, gap)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + gap + "".join(f"{_written(item, gap)},{gap}" for item in value) + "]"
    if isinstance(value, str):
        return _quoted(value)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {path, *(found for key, item in below for found in _paths(item, (*path, key)))}


@given(document=st.dictionaries(keys, trees, max_size=4), gap=st.sampled_from([" ", "\n", " # a, ] }\n  "]))
def test_no_key_of_any_document_is_missed_and_none_is_made_up(document: dict[str, Any], gap: str) -> None:
    text = "".join(f"{_quoted(key)} = {_written(value, gap)}\n" for key, value in document.items())
    assert tomllib.loads(text) == document

    assert set(find_lines(text)) | {()} == _paths(document)
