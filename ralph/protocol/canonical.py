"""The one canonical encoding and the one hash function.

Canonical CBOR (RFC 8949 section 4.2.1) over a closed set of types: int, bytes, str, list, map with
text keys, bool, null. No floats (numbers that are hashed travel as the shortest decimal string of a
float64), no tags, no indefinite lengths. Decoding re-encodes and compares bytes, so every value has
exactly one encoding and every preimage is injective.

``digest(tag, value) = sha256(u16le(len(tag)) + tag + cbor(value))``. ``envelope`` is that preimage:
an object stored as its envelope in a plain sha256 content-addressed store is found under its digest.
"""

import hashlib
import io
from typing import Annotated, Any, ClassVar, Self

import cbor2
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from ralph.errors import UntrustedInputError

Value = int | bytes | str | bool | None | list["Value"] | dict[str, "Value"]

MAX_DEPTH = 32
MAX_INTEGER = 2**64 - 1


def encode(value: Any) -> bytes:
    """Encode ``value`` canonically. Raises TypeError for a type outside the closed set."""
    _check(value, MAX_DEPTH)
    encoded: bytes = cbor2.dumps(value, canonical=True)
    return encoded


def decode(data: bytes, *, limit: int) -> Any:
    """Decode canonical CBOR of at most ``limit`` bytes, refusing every other encoding.

    Raises:
        UntrustedInputError: ``INT-SIZE`` over the limit, ``INT-SCHEMA`` for anything not canonical.
    """
    if len(data) > limit:
        raise UntrustedInputError("INT-SIZE", f"{len(data)} bytes of CBOR, limit {limit}")
    stream = io.BytesIO(data)
    try:
        value = cbor2.CBORDecoder(stream).decode()
        again = encode(value)
    except (cbor2.CBORDecodeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UntrustedInputError("INT-SCHEMA", f"not canonical CBOR: {error}") from error
    if again != data:
        raise UntrustedInputError("INT-SCHEMA", "CBOR is not in canonical form")
    return value


def envelope(tag: str, value: Any) -> bytes:
    """Return the preimage of ``digest(tag, value)``."""
    name = tag.encode("ascii")
    return len(name).to_bytes(2, "little") + name + encode(value)


def open_envelope(tag: str, data: bytes, *, limit: int) -> Any:
    """Return the value of an envelope that must carry ``tag``."""
    if len(data) > limit:
        raise UntrustedInputError("INT-SIZE", f"envelope of {len(data)} bytes, limit {limit}")
    name = tag.encode("ascii")
    prefix = len(name).to_bytes(2, "little") + name
    if data[: len(prefix)] != prefix:
        raise UntrustedInputError("INT-SCHEMA", f"envelope does not carry the tag {tag}")
    return decode(data[len(prefix) :], limit=limit)


def digest(tag: str, value: Any) -> bytes:
    """Return the domain-separated SHA-256 digest of ``value``."""
    return hashlib.sha256(envelope(tag, value)).digest()


def bytes_digest(tag: str, data: bytes | memoryview) -> bytes:
    """Return ``digest(tag, data)`` of a byte string of any size, without a copy of it."""
    name = tag.encode("ascii")
    hasher = hashlib.sha256(len(name).to_bytes(2, "little") + name + _bytes_head(memoryview(data).nbytes))
    hasher.update(data)
    return hasher.digest()


def _bytes_head(size: int) -> bytes:
    """Return what precedes a byte string in canonical CBOR: major type 2 and the length (RFC 8949 sections 3 and 4.2.1)."""
    if size < 24:
        return bytes([0x40 + size])
    width = next(width for width in (1, 2, 4, 8) if size < 256**width)
    return bytes([0x58 + (1, 2, 4, 8).index(width)]) + size.to_bytes(width, "big")


def blob_digest(data: bytes | bytearray | memoryview) -> bytes:
    """Return the plain SHA-256 of a file's bytes, the key of a blob in the store."""
    return hashlib.sha256(data).digest()


def real_text(number: float) -> str:
    """Return the shortest decimal string that reads back as the same float64. Finite only."""
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"{number} is not finite")
    return repr(float(number) + 0.0)


def _parse_real(value: Any) -> Any:
    if isinstance(value, str):
        if len(value) > 32:
            raise ValueError("a number of more than 32 characters")
        number = float(value)
        if real_text(number) != value:
            raise ValueError(f"{value!r} is not the shortest form of a float64")
        return number
    return value


def _parse_hex(value: Any) -> Any:
    return bytes.fromhex(value) if isinstance(value, str) and len(value) == 64 else value


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise TypeError("nested too deep")
    if value is None or isinstance(value, (bool, bytes, str)):
        return
    if isinstance(value, int):
        if not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
            raise TypeError(f"integer out of the 64-bit range: {value}")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError("map keys must be text")
            _check(item, depth - 1)
    else:
        raise TypeError(f"{type(value).__name__} is not in the closed set of types")


Real = Annotated[float, BeforeValidator(_parse_real), PlainSerializer(real_text), Field(allow_inf_nan=False)]
"""A float64 that travels as its shortest decimal string."""

Digest = Annotated[bytes, BeforeValidator(_parse_hex), Field(min_length=32, max_length=32)]
"""A SHA-256 digest. Bytes on the wire; 64 hexadecimal digits in files that people read."""

U64 = Annotated[int, Field(ge=0, le=MAX_INTEGER)]


class Canonical(BaseModel):
    """Base of every hashed or signed structure: frozen, closed, strictly typed.

    Sequences are tuples in Python and lists on the wire. ``TAG`` separates the domains of digests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    TAG: ClassVar[str]

    def value(self) -> dict[str, Any]:
        """Return the plain value that is encoded."""
        plain: dict[str, Any] = _plain(self.model_dump())
        return plain

    def to_bytes(self) -> bytes:
        """Return the envelope: tag and canonical CBOR. Its SHA-256 is ``digest()``."""
        return envelope(self.TAG, self.value())

    def digest(self) -> bytes:
        """Return the domain-separated digest."""
        return hashlib.sha256(self.to_bytes()).digest()

    @classmethod
    def from_value(cls, value: Any) -> Self:
        """Validate a decoded plain value. Raises UntrustedInputError ``INT-SCHEMA``."""
        try:
            parsed = cls.model_validate(_tuples(value))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or cls.__name__
            raise UntrustedInputError("INT-SCHEMA", f"{cls.__name__}: {where}: {first['msg']}") from error
        if parsed.value() != value:
            raise UntrustedInputError("INT-SCHEMA", f"{cls.__name__}: a field is missing or not in its canonical form")
        return parsed

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Validate what a person wrote (TOML): digests in hexadecimal, lists for tuples. Raises ValidationError."""
        return cls.model_validate(_tuples(plain))

    @classmethod
    def from_bytes(cls, data: bytes, *, limit: int) -> Self:
        """Parse untrusted bytes once: size first, then structure; the type is the proof."""
        return cls.from_value(open_envelope(cls.TAG, data, limit=limit))


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
