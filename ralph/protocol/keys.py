"""Signature verification and key ids: sr25519 hotkeys, ed25519 record keys.

One wrapper per scheme, so that everybody accepts and refuses the same signatures. Both schemes sign
32-byte domain digests (``ralph.protocol.canonical.digest``) and nothing else. A verifier answers False
to anything malformed: foreign bytes never raise here.

Three things the libraries accept and we do not: a signature over ``<Bytes>digest</Bytes>`` (what a
browser wallet signs when it is shown the digest as text), public keys of small order (anybody can sign
for them), and a second spelling of the same hotkey under another SS58 prefix.

What this does **not** promise: that a signature can be repeated. sr25519 signatures are randomised, so
nothing that must come out the same twice may hash one.
"""

import re

from bittensor_core import Keypair, ss58_decode, ss58_encode
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ralph.errors import UntrustedInputError

DIGEST_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

HOTKEY_FORMAT = 42
"""The SS58 prefix of Bittensor addresses (generic Substrate)."""

HOTKEY_MAX_LENGTH = 48
"""Characters of a prefix-42 address of a 32-byte key (47 or 48)."""

RECORD_KEY_PREFIX = "ed25519:"

_RECORD_KEY_ID = re.compile(r"ed25519:[0-9a-f]{64}")

_FIELD_PRIME = 2**255 - 19
_LOW_ORDER = frozenset(
    {
        0,
        1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
        _FIELD_PRIME - 1,
    }
)
"""y coordinates of the points of order 1, 2, 4 and 8 on edwards25519."""


def hotkey_public_key(ss58: str) -> bytes:
    """Return the 32-byte public key of a hotkey address.

    Raises:
        UntrustedInputError: ``INT-SIG`` when it is not the one canonical spelling of a usable key.
    """
    if not isinstance(ss58, str) or len(ss58) > HOTKEY_MAX_LENGTH or not ss58.isascii():
        raise UntrustedInputError(
            "INT-SIG", f"not a hotkey address: {ss58[:60]!r}" if isinstance(ss58, str) else "a hotkey address is text"
        )
    try:
        public = bytes(ss58_decode(ss58))
    except ValueError as error:
        raise UntrustedInputError("INT-SIG", f"not a hotkey address: {ss58!r}: {error}") from error
    if len(public) != PUBLIC_KEY_BYTES or ss58_encode(public, HOTKEY_FORMAT) != ss58:
        raise UntrustedInputError("INT-SIG", f"{ss58!r} is not a prefix-{HOTKEY_FORMAT} address of a 32-byte key")
    if public == bytes(PUBLIC_KEY_BYTES):
        raise UntrustedInputError("INT-SIG", "the all-zero key is nobody's: everybody can sign for it")
    return public


def verify_hotkey(ss58: str, digest: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` is the hotkey's sr25519 signature over exactly these 32 bytes."""
    if not _well_formed(digest, signature):
        return False
    try:
        hotkey_public_key(ss58)
        key = Keypair(ss58_address=ss58)
        # The library falls back to the wrapped message; a signature valid for the wrapped one is not ours.
        return bool(key.verify(digest, signature)) and not bool(key.verify(b"<Bytes>" + digest + b"</Bytes>", signature))
    except (UntrustedInputError, ValueError):
        return False


def record_key_id(public: bytes) -> str:
    """Return the id of an ed25519 record key: it spells out the whole key, so no registry is needed."""
    if len(public) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public)}")
    return RECORD_KEY_PREFIX + public.hex()


def record_public_key(key_id: str) -> bytes:
    """Return the public key that a record key id spells out.

    Raises:
        UntrustedInputError: ``INT-SIG`` when it is not such an id.
    """
    if not _RECORD_KEY_ID.fullmatch(key_id):
        raise UntrustedInputError("INT-SIG", f"not a record key id: {key_id[:80]!r}")
    return bytes.fromhex(key_id[len(RECORD_KEY_PREFIX) :])


def verify_record_key(public: bytes, digest: bytes, signature: bytes) -> bool:
    """Return whether ``signature`` is the ed25519 signature of ``public`` over these 32 bytes."""
    if not _well_formed(digest, signature) or not _usable_point(public):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, digest)
    except (InvalidSignature, ValueError):
        return False
    return True


def _well_formed(digest: bytes, signature: bytes) -> bool:
    return isinstance(digest, bytes) and isinstance(signature, bytes) and len(digest) == DIGEST_BYTES and len(signature) == SIGNATURE_BYTES


def _usable_point(public: bytes) -> bool:
    if not isinstance(public, bytes) or len(public) != PUBLIC_KEY_BYTES:
        return False
    y = int.from_bytes(public, "little") & ((1 << 255) - 1)
    return y < _FIELD_PRIME and y not in _LOW_ORDER
