"""What of a call, an event or an answer is secret by the contract, and has to be sealed before it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from shadow.contract import Contract, Entity
from shadow.events import Draft, EntityKey
from shadow.json import Json
from shadow.secrets import (
    Keyring,
    KeyringError,
    Known,
    SecretPath,
    agrees,
    is_sealed,
    looks_sealed,
    seal,
    secrets_of,
    unseal,
)

NO_KEY = (
    "the contract names secrets, but there is no key to seal them with; "
    'set CHANGEOVER_KEYS="k1:…", where … is what `openssl rand -base64 32` prints'
)


class Privacy:
    """Seals by the contract what goes into journal, log and kept answers, and opens it again.

    Without a key there is nothing to do, and nothing secret in the contract: otherwise the constructor raises
    KeyringError. Whatever is opened has to be given the name of the procedure or entity that it was sealed for.
    """

    def __init__(self, contract: Contract, keyring: Keyring | None) -> None:
        if keyring is None and contract.names_secrets:
            raise KeyringError(NO_KEY)
        self._contract = contract
        self._keyring = keyring
        secret = {rule.procedure: rule.secret for rule in contract.mutations.values()}
        secret |= {tap.procedure: tap.secret for tap in contract.taps.values()}
        self._of_procedure = {name: _paths(paths, contract) for name, paths in secret.items() if paths}
        self._of_entity = {
            entity.name: _paths(entity.secret, contract, entity)
            for entity in contract.entities.values()
            if entity.secret
        }
        self._active = keyring is not None and bool(self._of_procedure or self._of_entity)

    def seal_input(self, procedure: str, input: Json) -> Json:  # noqa: A002
        """Return a call's input as the journal may keep it."""
        paths = self._of_procedure.get(procedure, ())
        if self._keyring is None or not self._active or not (paths or looks_sealed(input)):
            return input
        return seal(input, paths, self._keyring, f"input/{procedure}", secrets_of(paths, input))

    def open_input(self, procedure: str, sealed: Json) -> Json:
        """Return the input that the journal kept; raises UnsealError."""
        return sealed if self._keyring is None else unseal(sealed, self._keyring, f"input/{procedure}")

    def seal_drafts(self, procedure: str, input: Json, output: Json, drafts: Sequence[Draft]) -> tuple[Draft, ...]:  # noqa: A002
        """Return a call's events as the log may keep them."""
        if not self._active:
            return tuple(drafts)
        paths = self._of_procedure.get(procedure, ())
        if not paths and not looks_sealed(input) and not looks_sealed(output) and not any(map(self._names, drafts)):
            return tuple(drafts)
        known = secrets_of(paths, input, output)
        return tuple(self._sealed(draft, paths, known) for draft in drafts)

    def seal_draft(self, draft: Draft) -> Draft:
        """Return an event that no call led to (an import, a correction, a published one) as the log may keep it."""
        if not self._active:
            return draft
        paths = self._of_entity.get(draft.entity.entity, ()) if draft.entity else ()
        return self._sealed(draft, paths, secrets_of(paths, draft.change, draft.data))

    def open_fields(self, key: EntityKey, sealed: Json) -> Json:
        """Return an entity's state or change in clear; raises UnsealError."""
        return sealed if self._keyring is None else unseal(sealed, self._keyring, _place(key, ""))

    def open_data(self, draft: Draft) -> Json:
        """Return an event's data in clear; raises UnsealError."""
        if self._keyring is None:
            return draft.data
        return unseal(draft.data, self._keyring, _place(draft.entity, draft.channel))

    def seal_answer(self, procedures: Iterable[str], answer: bytes) -> bytes:
        """Return an answer's bytes as they may be kept for a retry: sealed whole if any of its calls has secrets."""
        if self._keyring is None or not any(procedure in self._of_procedure for procedure in procedures):
            return answer
        return b"sealed:" + self._keyring.seal_bytes(answer, "answer")

    def open_answer(self, kept: bytes) -> bytes:
        """Return the answer that was kept; raises UnsealError."""
        if self._keyring is None or not kept.startswith(b"sealed:"):
            return kept
        return self._keyring.unseal_bytes(kept.removeprefix(b"sealed:"), "answer")

    def fingerprint(self, text: str) -> str:
        """Return the same short text for equal texts, keyed if there is a key, so that nobody can try out guesses."""
        if self._keyring is not None:
            return self._keyring.sealing.fingerprint(text)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def agrees(self, kept: Json, shown: Json) -> bool | None:
        """Tell whether a field's kept value can be what the legacy shows; None when that cannot be told."""
        return agrees(kept, shown, self._keyring) if is_sealed(kept) else bool(kept == shown)

    def _names(self, draft: Draft) -> bool:
        """Tell whether an event is about an entity with secret fields."""
        return draft.entity is not None and draft.entity.entity in self._of_entity

    def _sealed(self, draft: Draft, paths: tuple[SecretPath, ...], known: Known) -> Draft:
        assert self._keyring is not None
        fields = self._of_entity.get(draft.entity.entity, ()) if draft.entity else ()
        place = _place(draft.entity, draft.channel)
        both = (*paths, *fields)
        if not both and not known.texts and not known.forged:
            return draft
        return replace(
            draft,
            data=seal(draft.data, both, self._keyring, place, known),
            change=seal(draft.change, both, self._keyring, place, known),
        )


def _place(key: EntityKey | None, channel: str) -> str:
    return f"entity/{key.entity}/{key.key}" if key is not None else f"channel/{channel}"


def _paths(secret: Iterable[str], contract: Contract, entity: Entity | None = None) -> tuple[SecretPath, ...]:
    """Return secret paths, each with the mask rule for the field at its end if an entity has one."""
    entities = contract.entities.values() if entity is None else (entity,)
    masks = [mask for each in entities for mask in each.masks]
    found = []
    for path in secret:
        rule = next((mask for mask in masks if path == mask.field or path.endswith("." + mask.field)), None)
        found.append(SecretPath.parse(path) if rule is None else SecretPath.parse(path, rule.keep, rule.text))
    return tuple(found)
