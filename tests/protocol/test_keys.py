import bittensor_core
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.errors import UntrustedInputError
from ralph.protocol.keys import hotkey_public_key, record_key_id, record_public_key, verify_hotkey, verify_record_key

KEY = bittensor_core.Keypair.from_seed(b"\x11" * 32)
OTHER = bittensor_core.Keypair.from_seed(b"\x22" * 32)
RECORD = Ed25519PrivateKey.from_private_bytes(b"\x11" * 32)
PUBLIC = RECORD.public_key().public_bytes_raw()
DIGEST = bytes(range(32))
LOW_ORDER = (
    bytes(32),
    b"\x01" + bytes(31),
    b"\x01" + bytes(30) + b"\x80",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
)


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=30)
def test_a_signature_verifies_for_its_key_and_its_digest_only(digest: bytes) -> None:
    signature = KEY.sign(digest)
    assert verify_hotkey(KEY.ss58_address, digest, signature)
    assert not verify_hotkey(OTHER.ss58_address, digest, signature)
    assert not verify_hotkey(KEY.ss58_address, bytes([digest[0] ^ 1]) + digest[1:], signature)


def test_a_signature_over_the_wrapped_digest_is_refused_although_the_library_takes_it() -> None:
    signature = KEY.sign(b"<Bytes>" + DIGEST + b"</Bytes>")
    assert KEY.verify(DIGEST, signature)
    assert not verify_hotkey(KEY.ss58_address, DIGEST, signature)


@given(st.integers(0, 63), st.integers(0, 7))
@settings(max_examples=50)
def test_a_signature_with_one_flipped_bit_is_refused(position: int, bit: int) -> None:
    for signature, verify in (
        (bytearray(KEY.sign(DIGEST)), lambda value: verify_hotkey(KEY.ss58_address, DIGEST, value)),
        (bytearray(RECORD.sign(DIGEST)), lambda value: verify_record_key(PUBLIC, DIGEST, value)),
    ):
        signature[position] ^= 1 << bit
        assert not verify(bytes(signature))


@given(st.text(max_size=60), st.binary(max_size=70), st.binary(max_size=70))
def test_foreign_bytes_are_refused_and_never_raise(address: str, digest: bytes, signature: bytes) -> None:
    assert not verify_hotkey(address, digest, signature)
    assert not verify_hotkey(KEY.ss58_address, digest, signature)
    assert not verify_record_key(digest, digest, signature)


def test_only_32_byte_digests_are_verified() -> None:
    for message in (b"", DIGEST[:31], DIGEST + b"x"):
        assert not verify_hotkey(KEY.ss58_address, message, KEY.sign(message))
        assert not verify_record_key(PUBLIC, message, RECORD.sign(message))


def test_the_same_key_under_another_prefix_is_not_a_second_hotkey() -> None:
    alias = bittensor_core.ss58_encode(KEY.public_key, 0)
    assert bittensor_core.verify(DIGEST, KEY.sign(DIGEST), alias)
    assert not verify_hotkey(alias, DIGEST, KEY.sign(DIGEST))
    with pytest.raises(UntrustedInputError) as error:
        hotkey_public_key(alias)
    assert error.value.code == "INT-SIG"


@pytest.mark.parametrize(
    "address", ["", "x", KEY.ss58_address + " ", " " + KEY.ss58_address, KEY.ss58_address[:-1] + "1", "\ud800", "5" * 48]
)
def test_what_is_no_address_has_no_public_key(address: str) -> None:
    with pytest.raises(UntrustedInputError):
        hotkey_public_key(address)


def test_an_address_has_its_public_key() -> None:
    assert hotkey_public_key(KEY.ss58_address) == KEY.public_key


def test_the_all_zero_hotkey_for_which_anybody_can_sign_is_refused() -> None:
    address, signature = bittensor_core.ss58_encode(bytes(32)), bytes(63) + b"\x80"
    assert bittensor_core.verify(DIGEST, signature, address)
    assert not verify_hotkey(address, DIGEST, signature)


def test_a_record_key_for_which_anybody_can_sign_is_refused() -> None:
    identity = LOW_ORDER[1]
    Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), DIGEST)
    assert not verify_record_key(identity, DIGEST, identity + bytes(32))


@pytest.mark.parametrize("public", LOW_ORDER)
def test_no_point_of_small_order_is_a_record_key(public: bytes) -> None:
    for signature in (public + bytes(32), LOW_ORDER[1] + bytes(32)):
        for number in range(16):
            assert not verify_record_key(public, bytes([number]) * 32, signature)


def test_a_record_signature_verifies_for_its_key_only() -> None:
    signature = RECORD.sign(DIGEST)
    assert verify_record_key(PUBLIC, DIGEST, signature)
    assert not verify_record_key(Ed25519PrivateKey.generate().public_key().public_bytes_raw(), DIGEST, signature)
    assert not verify_record_key(PUBLIC[:31], DIGEST, signature)


def test_an_ed25519_signature_is_not_a_hotkeys() -> None:
    key = bittensor_core.Keypair.from_seed(b"\x11" * 32, bittensor_core.CRYPTO_ED25519)
    assert not verify_hotkey(key.ss58_address, DIGEST, key.sign(DIGEST))


@given(st.binary(min_size=32, max_size=32))
def test_a_record_key_id_spells_out_the_key(public: bytes) -> None:
    assert record_public_key(record_key_id(public)) == public


@pytest.mark.parametrize(
    "key_id", ["", "ed25519:", "ed25519:" + "0" * 63, "ed25519:" + "A" * 64, "sr25519:" + "0" * 64, "ed25519:" + "0" * 64 + "\n"]
)
def test_what_is_no_record_key_id_is_refused(key_id: str) -> None:
    with pytest.raises(UntrustedInputError) as error:
        record_public_key(key_id)
    assert error.value.code == "INT-SIG"
