import json
import stat
from pathlib import Path

import pytest
from bittensor_core import CRYPTO_ED25519, Keypair, serialized_keypair_to_keyfile_data

from ralph.chain.wallet import Hotkey, RecordKey, hotkey_path, read_coldkey_address, write_coldkey_address
from ralph.errors import ConfigurationError, CorruptStateError
from ralph.protocol.keys import record_key_id, verify_hotkey, verify_record_key

VECTORS = Path(__file__).parent / "vectors"
ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
DIGEST = bytes(range(32))


def place(directory: Path, data: bytes, *, mode: int = 0o600) -> None:
    path = hotkey_path(directory, "cold", "hot")
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    path.chmod(mode)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_created_hotkey_can_be_loaded_and_signs(tmp_path: Path) -> None:
    made = Hotkey.create(tmp_path, "cold", "hot")
    loaded = Hotkey.load(tmp_path, "cold", "hot")
    assert loaded.key_id == made.key_id
    assert verify_hotkey(made.key_id, DIGEST, loaded.sign(DIGEST))


def test_fresh_hotkeys_differ_and_seeded_ones_repeat(tmp_path: Path) -> None:
    names = {Hotkey.create(tmp_path, "cold", f"hot{number}").key_id for number in range(3)}
    assert len(names) == 3
    assert Hotkey.create(tmp_path, "cold", "seeded", seed=b"s" * 32).key_id == Hotkey.from_seed(b"s" * 32).key_id


def test_key_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    Hotkey.create(tmp_path, "cold", "hot")
    RecordKey.create(tmp_path / "record.key")
    assert mode_of(hotkey_path(tmp_path, "cold", "hot")) == 0o600
    assert mode_of(tmp_path / "record.key") == 0o600
    assert mode_of(tmp_path / "cold" / "hotkeys") == 0o700


def test_a_key_file_of_bittensor_works_unchanged(tmp_path: Path) -> None:
    place(tmp_path, (VECTORS / "bittensor-11.3-hotkey").read_bytes())
    key = Hotkey.load(tmp_path, "cold", "hot")
    assert key.key_id == ALICE
    assert verify_hotkey(ALICE, DIGEST, key.sign(DIGEST))


def test_an_encrypted_key_file_of_bittensor_needs_its_password(tmp_path: Path) -> None:
    place(tmp_path, (VECTORS / "bittensor-11.3-hotkey-encrypted").read_bytes())
    assert Hotkey.load(tmp_path, "cold", "hot", password="correct horse").key_id == ALICE
    with pytest.raises(ConfigurationError, match="is encrypted"):
        Hotkey.load(tmp_path, "cold", "hot")


def test_a_wrong_password_is_the_operators_to_correct(tmp_path: Path) -> None:
    place(tmp_path, (VECTORS / "bittensor-11.3-hotkey-encrypted").read_bytes())
    with pytest.raises(ConfigurationError, match="wrong password"):
        Hotkey.load(tmp_path, "cold", "hot", password="battery staple")


def test_our_key_file_has_the_fields_of_bittensor(tmp_path: Path) -> None:
    Hotkey.create(tmp_path, "cold", "hot")
    theirs = json.loads((VECTORS / "bittensor-11.3-hotkey").read_bytes())
    assert theirs.keys() <= json.loads(hotkey_path(tmp_path, "cold", "hot").read_bytes()).keys()
    assert json.loads((tmp_path / "cold" / "hotkeys" / "hotpub.txt").read_bytes()).keys() == theirs.keys() - {"privateKey"}


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    made = Hotkey.create(tmp_path, "cold", "hot")
    record = RecordKey.create(tmp_path / "record.key")
    with pytest.raises(ConfigurationError, match="exists already"):
        Hotkey.create(tmp_path, "cold", "hot")
    with pytest.raises(ConfigurationError, match="exists already"):
        RecordKey.create(tmp_path / "record.key")
    assert Hotkey.load(tmp_path, "cold", "hot").key_id == made.key_id
    assert RecordKey.load(tmp_path / "record.key").key_id == record.key_id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cold", "record.key"]


def test_a_missing_key_is_the_operators_to_make(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no key file"):
        Hotkey.load(tmp_path, "cold", "hot")
    with pytest.raises(ConfigurationError, match="there is no key file"):
        RecordKey.load(tmp_path / "record.key")


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_damaged_hotkey_file_stops_us(tmp_path: Path, cut: int) -> None:
    place(tmp_path, (VECTORS / "bittensor-11.3-hotkey").read_bytes()[:cut])
    with pytest.raises(CorruptStateError):
        Hotkey.load(tmp_path, "cold", "hot")


def test_a_hotkey_file_whose_address_is_another_keys_stops_us(tmp_path: Path) -> None:
    fields = json.loads((VECTORS / "bittensor-11.3-hotkey").read_bytes())
    place(tmp_path, json.dumps({**fields, "ss58Address": Hotkey.from_seed(bytes(32)).key_id}).encode())
    with pytest.raises(CorruptStateError):
        Hotkey.load(tmp_path, "cold", "hot")


def test_a_file_with_a_public_key_only_is_no_hotkey(tmp_path: Path) -> None:
    place(tmp_path, bytes(serialized_keypair_to_keyfile_data(Keypair(ss58_address=ALICE))))
    with pytest.raises(CorruptStateError, match="does not hold a private key"):
        Hotkey.load(tmp_path, "cold", "hot")


def test_a_key_of_another_kind_is_no_hotkey(tmp_path: Path) -> None:
    place(tmp_path, bytes(serialized_keypair_to_keyfile_data(Keypair.from_seed(bytes(32), CRYPTO_ED25519))))
    with pytest.raises(ConfigurationError, match="sr25519"):
        Hotkey.load(tmp_path, "cold", "hot")


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", ".hidden", "a b", "a\n", "x" * 65])
def test_a_name_that_leaves_the_wallet_directory_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="not a wallet name"):
        Hotkey.create(tmp_path, "cold", name)
    with pytest.raises(ConfigurationError, match="not a wallet name"):
        Hotkey.load(tmp_path, name, "hot")


def test_a_hotkey_file_open_to_others_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place(tmp_path, (VECTORS / "bittensor-11.3-hotkey").read_bytes(), mode=0o644)
    Hotkey.load(tmp_path, "cold", "hot")
    assert "chmod 600" in caplog.text


def test_only_digests_are_signed(tmp_path: Path) -> None:
    for key in (Hotkey.from_seed(bytes(32)), RecordKey(bytes(32))):
        for data in (b"", bytes(31), bytes(33), b"<Bytes>" + bytes(32) + b"</Bytes>"):
            with pytest.raises(ValueError, match="32-byte"):
                key.sign(data)


def test_no_key_shows_its_secret_when_printed(tmp_path: Path) -> None:
    seed = bytes(range(32))
    for key in (Hotkey.from_seed(seed), RecordKey(seed)):
        assert key.key_id in repr(key)
        assert seed.hex() not in repr(key)


def test_a_record_key_signs_the_same_way_every_time(tmp_path: Path) -> None:
    made = RecordKey.create(tmp_path / "record.key")
    loaded = RecordKey.load(tmp_path / "record.key")
    assert loaded.key_id == made.key_id == record_key_id(made.public_key)
    assert loaded.sign(DIGEST) == made.sign(DIGEST)
    assert verify_record_key(made.public_key, DIGEST, loaded.sign(DIGEST))


@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_one_flipped_bit_in_a_record_key_stops_us(tmp_path: Path, position: int) -> None:
    path = tmp_path / "record.key"
    RecordKey.create(path)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptStateError):
        RecordKey.load(path)


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_a_record_key_of_another_size_stops_us(tmp_path: Path, size: int) -> None:
    path = tmp_path / "record.key"
    path.touch(mode=0o600)
    path.write_bytes(bytes(size))
    with pytest.raises(CorruptStateError):
        RecordKey.load(path)


def test_a_record_key_open_to_others_is_refused(tmp_path: Path) -> None:
    RecordKey.create(tmp_path / "record.key")
    (tmp_path / "record.key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        RecordKey.load(tmp_path / "record.key")


def test_a_coldkey_is_kept_as_an_address_only(tmp_path: Path) -> None:
    write_coldkey_address(tmp_path, "cold", ALICE)
    assert read_coldkey_address(tmp_path, "cold") == ALICE
    with pytest.raises(ConfigurationError, match="not a hotkey address"):
        write_coldkey_address(tmp_path, "other", "nobody")
