"""Secrets are sealed where they stand, recognised when equal, and shown to nobody."""

from __future__ import annotations

import base64
import json as stdlib_json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow import json
from shadow.json import Json
from shadow.secrets import (
    Keyring,
    KeyringError,
    SecretPath,
    UnsealError,
    agrees,
    is_sealed,
    mask,
    same,
    seal,
    secrets_of,
    unseal,
)


def key(name: str, byte: int = 1) -> str:
    return f"{name}:{base64.b64encode(bytes([byte]) * 32).decode()}"


KEYRING = Keyring.parse(key("k1"))
PATHS = [SecretPath.parse("config.apiKey", keep=7), SecretPath.parse("providers.*.apiKey")]
SECRET = "sk-ant-0123456789abcdef"
CALL: dict[str, Any] = {
    "id": "p",
    "config": {"apiKey": SECRET, "baseUrl": "https://x"},
    "providers": {"a": {"apiKey": "other-secret"}, "b": {}},
    "list": [{"apiKey": "not a secret here"}],
}


def sealed_secret(secret: Json = SECRET, aad: str = "entity/p", keyring: Keyring = KEYRING) -> Any:
    return seal({"config": {"apiKey": secret}}, PATHS, keyring, aad)["config"]["apiKey"]


def test_a_secret_is_sealed_in_its_place_and_opens_again() -> None:
    sealed = seal(CALL, PATHS, KEYRING, "entity/p")

    assert SECRET.encode() not in json.encode(sealed)
    assert b"other-secret" not in json.encode(sealed)
    assert sealed["config"]["baseUrl"] == "https://x"
    assert sealed["list"] == CALL["list"]
    assert is_sealed(sealed["config"]["apiKey"])
    assert unseal(sealed, KEYRING, "entity/p") == CALL


def test_the_form_is_the_documented_one() -> None:
    """What is in a log today has to open for ever: this sealed value may never change."""
    assert sealed_secret() == {
        "$sealed": "v1.k1.B1NEvFQBaRsR7tVmeBjcoo_fJBZjfwLXPMuiHuN7W5yke5yFdSVe_AQEWQRTP5A4EB-IugE",
        "fp": "4842ed1df83cfe0f401918c5ad3d3980",
        "mask": "sk-ant-***",
    }


def test_everybody_else_sees_the_mask() -> None:
    assert mask(seal(CALL, PATHS, KEYRING, "entity/p")) == {
        "id": "p",
        "config": {"apiKey": "sk-ant-***", "baseUrl": "https://x"},
        "providers": {"a": {"apiKey": "***"}, "b": {}},
        "list": [{"apiKey": "not a secret here"}],
    }


@pytest.mark.parametrize("secret", ["short", "", "exactly-fourtn", 12345678, {"a": ["b"]}, ["x"], True])
def test_no_mask_shows_more_than_half_of_a_secret(secret: Json) -> None:
    sealed = sealed_secret(secret)

    shown = sealed["mask"].removesuffix("***")
    assert len(shown) <= len(str(secret)) / 2
    assert unseal(sealed, KEYRING, "entity/p") == secret


def test_nothing_is_sealed_where_there_is_nothing() -> None:
    assert sealed_secret(None) is None
    assert seal({"config": None}, PATHS, KEYRING, "x") == {"config": None}
    assert seal("text", PATHS, KEYRING, "x") == "text"


def test_equal_secrets_are_recognised_wherever_they_stand() -> None:
    here, there, other = sealed_secret(), sealed_secret(aad="entity/q"), sealed_secret("sk-ant-other")

    assert here["$sealed"] != there["$sealed"]
    assert same(here, there) is True
    assert same(here, other) is False
    assert same(here, sealed_secret(keyring=Keyring.parse(key("k2", 2)))) is None


def test_the_same_secret_at_the_same_place_seals_to_the_same_bytes() -> None:
    assert sealed_secret() == sealed_secret()


def test_a_sealed_value_does_not_open_at_another_place() -> None:
    with pytest.raises(UnsealError, match="was changed, or belongs to another place"):
        unseal(sealed_secret(), KEYRING, "entity/q")


@given(at=st.integers(0, 200), change=st.integers(1, 255))
def test_a_sealed_value_that_was_changed_does_not_open(at: int, change: int) -> None:
    sealed = sealed_secret()
    version, name, encoded = sealed["$sealed"].split(".")
    data = bytearray(base64.urlsafe_b64decode(encoded + "=="))
    data[at % len(data)] ^= change
    sealed["$sealed"] = f"{version}.{name}.{base64.urlsafe_b64encode(data).decode()}"

    with pytest.raises(UnsealError):
        unseal(sealed, KEYRING, "entity/p")


def test_keys_are_rotated_by_putting_a_new_one_in_front() -> None:
    old, new = sealed_secret(), Keyring.parse(f"{key('k2', 2)}, {key('k1')}")

    assert unseal(old, new, "entity/p") == SECRET
    assert sealed_secret(keyring=new)["$sealed"].startswith("v1.k2.")
    with pytest.raises(UnsealError, match="the key 'k2' is missing"):
        unseal(sealed_secret(keyring=new), KEYRING, "entity/p")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "key 1 has no name"),
        ("abc", "key 1 has no name"),
        ("k1:abc!", "key 'k1' is not base64"),
        ("k1:YWJj", "key 'k1' has 3 bytes instead of 32"),
        (f"{key('k1')},{key('k1', 2)}", "two keys are called 'k1'"),
        (f"{key('k1')},", "key 2 has no name"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_without_showing_them(text: str, message: str) -> None:
    with pytest.raises(KeyringError) as failure:
        Keyring.parse(text)

    assert str(failure.value).startswith(message)
    assert "YWJj" not in str(failure.value)


def test_no_representation_shows_a_key_or_a_secret() -> None:
    known = secrets_of(PATHS, CALL)

    assert "AQEB" not in repr(KEYRING)
    assert SECRET not in repr(known)


def test_a_secret_is_sealed_wherever_an_event_took_it() -> None:
    data = {"provider": "p", "renamed": {"key": SECRET, "deep": [SECRET]}, "name": "short"}
    call = {"config": {"apiKey": SECRET}, "providers": {"a": {"apiKey": "short"}}}

    sealed = seal(data, PATHS, KEYRING, "entity/p", secrets_of(PATHS, call))

    assert SECRET.encode() not in json.encode(sealed)
    assert mask(sealed)["renamed"] == {"key": "sk-ant-***", "deep": ["sk-ant-***"]}
    assert sealed["name"] == "short", "a short secret could be any word and is sealed where a path names it only"


def test_what_a_client_sends_as_sealed_is_plain_data_and_sealed_itself() -> None:
    forged = {"$sealed": "v1.k1.AAAA", "fp": "0", "mask": "everything"}
    call = {"title": forged}

    sealed = seal(call, PATHS, KEYRING, "x", secrets_of(PATHS, call))

    assert mask(sealed) == {"title": "***"}
    assert unseal(sealed, KEYRING, "x") == call


def test_what_the_state_holds_sealed_stays_as_it_is() -> None:
    state = {"config": {"apiKey": sealed_secret()}}

    assert seal(state, PATHS, KEYRING, "entity/p", secrets_of(PATHS, CALL)) == state


@pytest.mark.parametrize(
    ("secret", "shown", "expected"),
    [
        (SECRET, SECRET, True),
        (SECRET, "sk-ant-***", True),
        (SECRET, "sk-ant-9", False),
        (SECRET, None, False),
        ("short-key", "short-k***", True),
        ("short-key", "shor***", False),
        ("short-key", "short-key", True),
    ],
)
def test_a_secret_agrees_with_what_the_legacy_shows_of_it(secret: str, shown: Json, expected: bool) -> None:
    assert agrees(sealed_secret(secret), shown, KEYRING) is expected


def test_without_the_key_only_a_mask_can_be_compared() -> None:
    assert agrees(sealed_secret(), "sk-ant-***", None) is True
    assert agrees(sealed_secret(), SECRET, None) is None
    assert agrees(sealed_secret(), SECRET, Keyring.parse(key("k2", 2))) is None


@given(data=st.binary(max_size=100), aad=st.text(max_size=5))
def test_bytes_are_sealed_whole(data: bytes, aad: str) -> None:
    sealed = KEYRING.seal_bytes(data, aad)

    assert KEYRING.unseal_bytes(sealed, aad) == data
    with pytest.raises(UnsealError):
        KEYRING.unseal_bytes(sealed, aad + "!")
    with pytest.raises(UnsealError):
        KEYRING.unseal_bytes(b"v0" + sealed, aad)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "a-long-secret", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "$sealed", "fp", "mask"]), inner, max_size=3)
    ),
)
paths = st.lists(st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).map(".".join), max_size=3)


@given(value=values, paths=paths)
def test_whatever_is_sealed_opens_to_what_it_was(value: Json, paths: list[str]) -> None:
    secrets = [SecretPath.parse(path, keep=3) for path in paths]

    sealed = seal(value, secrets, KEYRING, "place", secrets_of(secrets, value))

    assert unseal(sealed, KEYRING, "place") == value
    assert stdlib_json.loads(json.encode(sealed)) == sealed
