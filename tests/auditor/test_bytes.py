"""Not one byte of what was published can change, whoever changes it and whatever he recomputes afterwards."""

from pathlib import Path

import pytest

from ralph.auditor.audit import find_validator
from ralph.auditor.published import signatures
from ralph.auditor.report import Check, Kind, Verdict
from ralph.chain.local import LocalChain
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.protocol.record import MAX_RECORD_BYTES, SignedRecord
from tests.auditor.world import World, key, run


def path_of(world: World, name: bytes) -> Path:
    return world.home / "store" / "objects" / name.hex()[:2] / name.hex()[2:]


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << position % 8
    path.write_bytes(data)


def refused(data: bytes, public: bytes) -> bool:
    """Return whether a SignedRecord is worthless: it does not parse, or a signature in it is not the key's."""
    try:
        signed = SignedRecord.from_bytes(data, limit=MAX_RECORD_BYTES)
    except UntrustedInputError:
        return True
    return not all(holds for holds, _ in signatures(signed, public))


def test_no_byte_of_a_record_can_change_without_breaking_its_parsing_or_a_signature(world: World) -> None:
    """Every single byte, in the hands of an operator who puts the changed file under its new digest but cannot sign."""
    public = world.record_key.public_key
    data = world.play().to_bytes()
    assert not refused(data, public)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        assert refused(bytes(changed), public), position


def test_bytes_of_the_largest_record_cannot_change_either(honest: World) -> None:
    public = honest.record_key.public_key
    data = max((one.to_bytes() for one in honest.records), key=len)
    for position in range(0, len(data), 97):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        assert refused(bytes(changed), public), position


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_one_changed_byte_in_the_store_fails_the_audit(honest: World, tmp_path: Path, index: int, place: float) -> None:
    world = honest.copy(tmp_path / "copy")
    data = world.records[index].to_bytes()
    anchor = world.store.get(world.anchors[index], limit=4096)
    locator = next(
        name
        for name in (anchor[i : i + 32] for i in range(len(anchor)))
        if world.store.has(name) and path_of(world, name).stat().st_size == len(data)
    )
    flip(path_of(world, locator), int(place * (len(data) - 1)))
    report = world.audit()
    assert report.verdict is Verdict.DIVERGED
    assert [one.subject for one in report.findings if one.check is Check.FILE] == [f"round {index}"]
    assert report.records == index


def test_one_changed_byte_of_an_anchor_fails_the_audit(world: World) -> None:
    flip(path_of(world, world.anchors[2]), 40)
    assert world.audit().verdict is Verdict.DIVERGED


def test_a_record_that_is_not_in_the_store_leaves_the_audit_incomplete(world: World) -> None:
    world.play()
    path_of(world, world.store.put(world.records[-1].to_bytes())).unlink()
    report = world.audit()
    assert report.verdict is Verdict.INCOMPLETE
    assert report.records == 5


def test_a_file_of_a_bundle_that_is_gone_or_damaged_is_unknown_and_no_accusation(world: World) -> None:
    world.reproduced.clear()
    bundle = next(case.bundle for case in world.records[1].record.cases if case.hotkey == key("alice").key_id)
    patch = next(case.patch for case in world.records[1].record.cases if case.hotkey == key("bob").key_id)
    assert bundle is not None
    assert patch is not None
    path_of(world, bundle).unlink()
    flip(path_of(world, patch), 10)
    report = world.audit()
    assert report.verdict is Verdict.INCOMPLETE
    assert {(one.check, one.kind) for one in report.findings} == {(Check.GATES, Kind.UNKNOWN)}


def test_silence_is_said(world: World) -> None:
    world.produce(4 * world.profile.rules.rounds.length)
    report = world.audit()
    assert report.verdict is Verdict.INCOMPLETE
    assert [one.detail for one in report.findings][-1].startswith("no record since round 4")


def test_another_chain_is_no_audit(world: World) -> None:
    world.profile = world.profile.model_copy(update={"chain": bytes(32)})
    with pytest.raises(ConfigurationError, match="another one than the profile's"):
        world.audit()


def test_the_validator_is_found_where_there_is_one(honest: World) -> None:
    chain = LocalChain.connect(honest.home / "chain.sqlite")
    try:
        assert run(find_validator(chain)) == honest.validator
    finally:
        run(chain.close())
