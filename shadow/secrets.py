"""Secrets at rest: sealed where they stand inside JSON, recognisable when equal, masked for everybody else.

A sealed value takes the place of the secret and is an object itself:

    {"$sealed": "v1.KEYID.DATA", "fp": "…", "mask": "sk-ant-***", "shown": "…"}

- `$sealed`: the version of this form, the name of the key, and in base64url without padding a nonce of 12 bytes
  followed by what AES-256-GCM makes of the secret's JSON text. The additional data bind it to a place (see `aad`), so
  that a sealed value copied to another entity's row does not open there.
- `fp`: a fingerprint, the first 128 bits of an HMAC-SHA256 of the secret's JSON text in hex. Under one key equal
  secrets have equal fingerprints wherever they stand; without the key nobody can try out guesses.
- `mask`: what everybody may see. At most half of a secret is ever shown, whatever the mask rule says.
- `shown`: only where the mask rule says more than that: the fingerprint of what the legacy shows, to compare with.

Nothing is random: the nonce is an HMAC of additional data and secret, so the same secret at the same place seals to
the same bytes, two different ones share a nonce with the probability of a collision of 96 bits, and states can be
compared without the key. The keys for sealing, nonces and fingerprints are derived from each other's root by HKDF.

Keys are written `NAME:BASE64,NAME:BASE64…`, 32 bytes each. The first one seals, all of them open: to rotate, put the
new key in front and keep the old ones for as long as the log holds what they sealed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shadow import json
from shadow.errors import Mendable
from shadow.json import Json

MARK: Final = "$sealed"
LONG_ENOUGH: Final = 8
"""A secret text of at least this length is sealed wherever it turns up; a shorter one might be any word."""

_MARK_BYTES = b'"' + MARK.encode() + b'"'
_encoder = msgspec.json.Encoder()
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_EXAMPLE = 'write it as "k1:…", where … is what `openssl rand -base64 32` prints'

Path: TypeAlias = tuple[str, ...]


class KeyringError(Mendable):
    """Keys that cannot be used; the message never contains one."""


class UnsealError(Exception):
    """A sealed value that cannot be opened: its key is missing, or it was changed or moved."""


@dataclass(frozen=True, slots=True)
class SecretPath:
    """Where a secret stands, `*` meaning every element, and how much of it the legacy shows."""

    path: Path
    keep: int = 0
    text: str = "***"

    @classmethod
    def parse(cls, path: str, keep: int = 0, text: str = "***") -> SecretPath:
        """Read `providers.*.apiKey`."""
        return cls(tuple(path.split(".")), keep, text)


class Key:
    """One key: what it seals, it opens, and it makes fingerprints."""

    __slots__ = ("_cipher", "_fingerprints", "_nonces", "name")

    def __init__(self, name: str, root: bytes) -> None:
        self.name = name
        self._cipher = AESGCM(_derived(root, b"seal"))
        self._nonces = _derived(root, b"nonce")
        self._fingerprints = _derived(root, b"fingerprint")

    def __repr__(self) -> str:
        return f"Key({self.name!r})"

    def seal(self, data: bytes, aad: bytes) -> bytes:
        """Return nonce and ciphertext."""
        place = len(aad).to_bytes(8, "big") + aad
        nonce = hmac.digest(self._nonces, place + data, hashlib.sha256)[:12]
        return nonce + self._cipher.encrypt(nonce, data, aad)

    def open(self, sealed: bytes, aad: bytes) -> bytes:
        """Return what was sealed for the same `aad`; raises UnsealError."""
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], aad)
        except (InvalidTag, ValueError):
            raise UnsealError("a sealed value was changed, or belongs to another place") from None

    def fingerprint(self, value: Json) -> str:
        """Return the same text for equal values, and nothing that tells the value."""
        return hmac.digest(self._fingerprints, json.encode(value), hashlib.sha256)[:16].hex()


def _derived(root: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"changeover v1 " + purpose).derive(root)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of an installation; the first one seals, all of them open."""

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """Read `NAME:BASE64,…`; raises KeyringError with what to write instead."""
        keys = tuple(_key(part.strip(), at) for at, part in enumerate(text.split(","), start=1))
        names = [key.name for key in keys]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise KeyringError(f"two keys are called {repeated!r}; every key needs a name of its own")
        return cls(keys)

    @property
    def sealing(self) -> Key:
        """The key that seals now."""
        return self.keys[0]

    def named(self, name: str) -> Key:
        """Return a key by name; raises UnsealError."""
        for key in self.keys:
            if key.name == name:
                return key
        raise UnsealError(f"the key {name!r} is missing; add it behind the first one")

    def seal_bytes(self, data: bytes, aad: str) -> bytes:
        """Seal something whole, such as a kept answer."""
        return f"v1.{self.sealing.name}.".encode() + self.sealing.seal(data, aad.encode())

    def unseal_bytes(self, sealed: bytes, aad: str) -> bytes:
        """Open what `seal_bytes` sealed; raises UnsealError."""
        version, name, data = _split(sealed)
        if version != b"v1":
            raise UnsealError("this was not sealed here")
        return self.named(name.decode("ascii", "replace")).open(data, aad.encode())


def _split(sealed: bytes) -> tuple[bytes, bytes, bytes]:
    version, _, rest = sealed.partition(b".")
    name, _, data = rest.partition(b".")
    return version, name, data


def _key(part: str, at: int) -> Key:
    name, colon, encoded = part.partition(":")
    if not colon or not _NAME.fullmatch(name):
        raise KeyringError(f"key {at} has no name; {_EXAMPLE}")
    try:
        root = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise KeyringError(f"key {name!r} is not base64; {_EXAMPLE}") from None
    if len(root) != 32:
        raise KeyringError(f"key {name!r} has {len(root)} bytes instead of 32; {_EXAMPLE}")
    return Key(name, root)


@dataclass(frozen=True, slots=True)
class Known:
    """The secrets of one call, to be sealed wherever they turn up in what is made of it."""

    texts: dict[str, SecretPath] = field(default_factory=dict)
    forged: tuple[Json, ...] = ()
    """Objects in the call that look sealed. Nobody outside can seal, so they are plain data and are sealed whole."""

    def __repr__(self) -> str:
        return f"Known({len(self.texts)} texts)"


def secrets_of(paths: Sequence[SecretPath], *values: Json) -> Known:
    """Return the secrets that stand at `paths` of values which came from outside: a call's input and output."""
    texts: dict[str, SecretPath] = {}
    forged: list[Json] = []
    for value in values:
        if looks_sealed(value):
            forged += _looking_sealed(value)
        for secret in paths:
            for found in _at(value, secret.path):
                if isinstance(found, str) and len(found) >= LONG_ENOUGH:
                    texts[found] = secret
    return Known(texts, tuple(forged))


def _at(value: Json, path: Path) -> Iterator[Json]:
    if not path:
        yield value
        return
    for child in _below(value, path[0]):
        yield from _at(child, path[1:])


def _below(value: Json, name: str) -> Iterable[Json]:
    if isinstance(value, dict):
        if name == "*":
            return value.values()
        return (value[name],) if name in value else ()
    return value if isinstance(value, list) and name == "*" else ()


def looks_sealed(value: Json) -> bool:
    """Tell whether an object in `value` may look sealed: by a scan in C, for this is asked of every call."""
    return type(value) in _CONTAINERS and _MARK_BYTES in _encoder.encode(value)


_CONTAINERS: Final = frozenset({dict, list})


def _looking_sealed(value: Json) -> Iterator[Json]:
    if isinstance(value, dict):
        if MARK in value:
            yield value
            return
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _looking_sealed(item)


def seal(value: Json, paths: Sequence[SecretPath], keyring: Keyring, aad: str, known: Known | None = None) -> Json:
    """Return `value` with everything secret sealed: what stands at `paths`, and the `known` secrets anywhere.

    `aad` names the place, and has to be given again to open. What is null stays null; what is sealed already stays
    as it is. Parts without secrets are shared with `value`, not copied.
    """
    if not paths and (known is None or not (known.texts or known.forged)):
        return value
    return _Sealer(keyring.sealing, aad.encode(), known or Known()).sealed(value, tuple(paths), None)


@dataclass(frozen=True, slots=True)
class _Sealer:
    key: Key
    aad: bytes
    known: Known

    def sealed(self, value: Json, paths: tuple[SecretPath, ...], here: SecretPath | None) -> Json:
        """Return `value`, which stands where `here` ends if it is given; `paths` are what is left to go from here."""
        if value is None:
            return None
        if isinstance(value, dict) and MARK in value:
            return self._object(value, here or SecretPath(())) if value in self.known.forged else value
        if here is None and isinstance(value, str):
            here = self.known.texts.get(value)
        if here is not None:
            return self._object(value, here)
        if isinstance(value, dict):
            return {name: self.sealed(item, *_step(paths, name)) for name, item in value.items()}
        if isinstance(value, list):
            return [self.sealed(item, *_step(paths, None)) for item in value]
        return value

    def _object(self, value: Json, secret: SecretPath) -> dict[str, Json]:
        data = self.key.seal(json.encode(value), self.aad)
        encoded = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
        sealed = {MARK: f"v1.{self.key.name}.{encoded}", "fp": self.key.fingerprint(value), "mask": secret.text}
        if isinstance(value, str) and secret.keep:
            sealed["mask"] = value[: min(secret.keep, len(value) // 2)] + secret.text
            shown = value[: secret.keep] + secret.text
            if shown != sealed["mask"]:
                sealed["shown"] = self.key.fingerprint(shown)
        return sealed


def _step(paths: tuple[SecretPath, ...], name: str | None) -> tuple[tuple[SecretPath, ...], SecretPath | None]:
    """Follow `paths` one step: what is left of those that go on, and one that ends here."""
    on: list[SecretPath] = []
    ends: SecretPath | None = None
    for secret in paths:
        if secret.path[0] == "*" or secret.path[0] == name:
            rest = SecretPath(secret.path[1:], secret.keep, secret.text)
            if rest.path:
                on.append(rest)
            else:
                ends = rest
    return tuple(on), ends


def is_sealed(value: Json) -> bool:
    """Tell whether `value` stands in the place of a secret."""
    return isinstance(value, dict) and isinstance(value.get(MARK), str) and "fp" in value and "mask" in value


def unseal(value: Json, keyring: Keyring, aad: str) -> Json:
    """Return `value` with its secrets in clear; raises UnsealError."""
    if is_sealed(value):
        return json.decode(_open(value, keyring, aad))
    if isinstance(value, dict):
        return {name: unseal(item, keyring, aad) for name, item in value.items()}
    if isinstance(value, list):
        return [unseal(item, keyring, aad) for item in value]
    return value


def _open(sealed: dict[str, Json], keyring: Keyring, aad: str) -> bytes:
    version, name, encoded = _split(str(sealed[MARK]).encode())
    if version != b"v1":
        raise UnsealError("this was not sealed here")
    try:
        data = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        raise UnsealError("a sealed value was changed, or belongs to another place") from None
    return keyring.named(name.decode()).open(data, aad.encode())


def mask(value: Json) -> Json:
    """Return `value` as everybody may see it: each secret as its mask."""
    if is_sealed(value):
        return value["mask"]
    if isinstance(value, dict):
        return {name: mask(item) if isinstance(item, (dict, list)) else item for name, item in value.items()}
    if isinstance(value, list):
        return [mask(item) for item in value]
    return value


def agrees(sealed: Json, shown: Json, keyring: Keyring | None) -> bool | None:
    """Tell whether what the legacy shows can be this secret: in clear, or masked as its mask rule says.

    None when that cannot be told, because the key is missing. The legacy may show either form.
    """
    if isinstance(shown, str) and shown == sealed["mask"] and "shown" not in sealed:
        return True
    try:
        key = keyring.named(str(sealed[MARK]).split(".")[1]) if keyring is not None else None
    except (UnsealError, IndexError):
        key = None
    if key is None:
        return None
    fingerprint = key.fingerprint(shown)
    return fingerprint in {sealed["fp"], sealed.get("shown")}


def same(first: Json, second: Json) -> bool | None:
    """Tell whether two sealed values hold equal secrets; None when they were sealed by different keys."""
    names = {str(sealed[MARK]).split(".")[1] for sealed in (first, second)}
    return bool(first["fp"] == second["fp"]) if len(names) == 1 else None
