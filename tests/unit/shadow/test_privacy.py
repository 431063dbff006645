"""What the contract calls secret is sealed before it is kept, in every form that it takes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from shadow import json
from shadow.contract import Contract, load, parse
from shadow.events import Draft, Effect, EntityKey
from shadow.json import Json
from shadow.privacy import Privacy
from shadow.secrets import Keyring, KeyringError, UnsealError, mask

CONTRACT = load(Path(__file__).parents[3] / "examples" / "contract.toml")
KEYRING = Keyring.parse("k1:" + base64.b64encode(b"1" * 32).decode())
PRIVACY = Privacy(CONTRACT, KEYRING)
UPDATE = "config.updateProviderConfig"
SECRET = "sk-ant-0123456789"
PROVIDER = EntityKey("provider", "anthropic")
INPUT: Json = {"providerId": "anthropic", "config": {"apiKey": SECRET, "baseUrl": "https://x"}}


def drafts_of(procedure: str, input_: Json, contract: Contract = CONTRACT) -> tuple[Draft, ...]:
    rule = contract.mutations[procedure]
    return rule.decide(input_, {"success": True}, lambda key: None, 1, lambda: "id", keys_of=lambda entity: [])


def test_a_contract_with_secrets_needs_a_key() -> None:
    with pytest.raises(KeyringError, match="set CHANGEOVER_KEYS"):
        Privacy(CONTRACT, None)


def test_the_journal_keeps_an_input_sealed_and_gives_it_back() -> None:
    sealed = PRIVACY.seal_input(UPDATE, INPUT)

    assert SECRET.encode() not in json.encode(sealed)
    assert PRIVACY.open_input(UPDATE, sealed) == INPUT
    with pytest.raises(UnsealError):
        PRIVACY.open_input("config.save", sealed)


def test_the_log_keeps_data_and_change_sealed_and_the_state_opens() -> None:
    (draft,) = PRIVACY.seal_drafts(UPDATE, INPUT, {"success": True}, drafts_of(UPDATE, INPUT))

    assert SECRET.encode() not in json.encode([draft.data, draft.change])
    assert mask(draft.data) == {"provider": "anthropic", "config": {"apiKey": "sk-ant-***", "baseUrl": "https://x"}}
    assert PRIVACY.open_fields(PROVIDER, draft.change) == INPUT["config"]
    assert PRIVACY.open_data(draft) == {"provider": "anthropic", "config": INPUT["config"]}


def test_each_of_many_secrets_in_one_call_is_sealed() -> None:
    call = {"config": {"providers": {"a": {"apiKey": "short"}, "b": {"apiKey": SECRET}}}}

    kept = [PRIVACY.seal_input("config.save", call)]
    for draft in PRIVACY.seal_drafts("config.save", call, None, drafts_of("config.save", call)):
        kept += [draft.data, draft.change]

    assert b"short" not in json.encode(kept)
    assert SECRET.encode() not in json.encode(kept)


def test_an_imported_entity_is_sealed_by_its_fields() -> None:
    imported = Draft("id", "config:ai", "imported", 1, {"apiKey": SECRET}, PROVIDER, Effect.PUT, {"apiKey": SECRET})

    sealed = PRIVACY.seal_draft(imported)

    assert SECRET.encode() not in json.encode([sealed.data, sealed.change])
    assert PRIVACY.open_fields(PROVIDER, sealed.change) == {"apiKey": SECRET}


def test_an_imported_and_a_mirrored_secret_are_equal_in_the_state() -> None:
    imported = Draft("id", "config:ai", "imported", 1, {}, PROVIDER, Effect.PUT, dict(INPUT["config"]))
    (mirrored,) = PRIVACY.seal_drafts(UPDATE, INPUT, None, drafts_of(UPDATE, INPUT))

    assert PRIVACY.seal_draft(imported).change == mirrored.change


def test_a_kept_answer_is_sealed_where_its_call_has_secrets() -> None:
    kept = PRIVACY.seal_answer([UPDATE, "session.create"], b'{"apiKey":"sk"}')

    assert b"sk" not in kept.removeprefix(b"sealed:v1.k1.")
    assert PRIVACY.open_answer(kept) == b'{"apiKey":"sk"}'
    assert PRIVACY.seal_answer(["session.create"], b"{}") == b"{}"
    assert PRIVACY.open_answer(b"{}") == b"{}"


def test_what_is_not_secret_is_left_as_it_is() -> None:
    call = {"sessionId": "s1", "title": "Tea"}
    drafts = drafts_of("session.updateTitle", call)

    assert PRIVACY.seal_input("session.updateTitle", call) == call
    assert PRIVACY.seal_drafts("session.updateTitle", call, None, drafts) == drafts


@pytest.mark.parametrize(("shown", "expected"), [("sk-ant-***", True), (SECRET, True), ("sk-other", False)])
def test_a_kept_secret_is_compared_with_what_the_legacy_shows(shown: str, expected: bool) -> None:
    (draft,) = PRIVACY.seal_drafts(UPDATE, INPUT, None, drafts_of(UPDATE, INPUT))
    assert draft.change is not None

    assert PRIVACY.agrees(draft.change["apiKey"], shown) is expected
    assert PRIVACY.agrees(draft.change["baseUrl"], "https://x") is True


def test_without_secrets_in_the_contract_no_key_is_needed() -> None:
    contract = parse(
        """
        [phase.all]
        entities = ["session"]
        [entity.session]
        key = "item.id"
        fields = ["title"]
        """,
        "contract.toml",
    )
    privacy = Privacy(contract, None)

    assert privacy.seal_input("a.b", INPUT) == INPUT
    assert privacy.open_input("a.b", INPUT) == INPUT
    assert privacy.seal_answer(["a.b"], b"{}") == b"{}"
