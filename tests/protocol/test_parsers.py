"""Every parser of foreign bytes: a value that encodes to the same bytes, or a typed refusal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.errors import UntrustedInputError
from ralph.protocol.announcement import Announcement, Environment, Hypothesis, Slot, parse_anchor_payload
from ralph.protocol.bundle import Manifest, ManifestEntry, RunClaim, manifest_of
from ralph.protocol.canonical import envelope
from ralph.protocol.measurement import ExactScores, Measurement, SignedMeasurement
from ralph.protocol.network import NetworkProfile, devnet_rules
from ralph.protocol.pool import OpenedSubset, Opening, PoolCommitment, PoolLeaves, Subset
from ralph.protocol.record import Anchor, KeyEndorsement, Record, SignedRecord
from ralph.protocol.rules import Rules
from ralph.protocol.submission import Submission
from tests.protocol.test_canonical import VALUES

STRUCTURES = [
    Announcement, Environment, Hypothesis, Manifest, ManifestEntry, RunClaim, Measurement, SignedMeasurement,
    NetworkProfile, Anchor, KeyEndorsement, Record, SignedRecord, Rules, Submission,
    PoolCommitment, Opening, OpenedSubset, PoolLeaves, Subset, ExactScores,
]  # fmt: skip
RULES = devnet_rules(genesis_tree=bytes(32), manifest=bytes(32), vocabulary=1024, hidden=bytes(32), sources=())


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda one: one.__name__)
@given(data=st.one_of(st.binary(max_size=300), VALUES))
def test_anything_foreign_is_a_canonical_structure_or_refused(structure, data):
    raw = data if isinstance(data, bytes) else envelope(structure.TAG, data)
    try:
        parsed = structure.from_bytes(raw, limit=10_000)
    except UntrustedInputError as error:
        assert error.code in ("INT-SCHEMA", "INT-SIZE")
    else:
        assert parsed.to_bytes() == raw


@given(st.binary(min_size=0, max_size=130))
def test_a_slot_is_106_bytes_of_its_version_and_nothing_else(data):
    try:
        slot = Slot.from_bytes(data)
    except UntrustedInputError as error:
        assert error.code == "INT-SCHEMA"
        assert len(data) != 106 or data[0] != 1
    else:
        assert slot.to_bytes() == data


@given(st.binary(max_size=40))
def test_an_anchor_slot_is_a_version_and_a_digest(data):
    try:
        digest = parse_anchor_payload(data)
    except UntrustedInputError as error:
        assert error.code == "INT-SCHEMA"
    else:
        assert bytes([129]) + digest == data


FIXED = dict.fromkeys(("announcement.cbor", "environment.cbor", "hypothesis.cbor", "licence", "patch.diff"), b"x")
RUN = {f"runs/C1-00000000000000ff/{name}": b"y" for name in ("run.cbor", "transcript", "weights.safetensors")}


def test_a_bundle_with_exactly_the_required_files_names_its_runs():
    assert manifest_of({**FIXED, **RUN}).run_keys(RULES.bundle) == (("C1", 255),)


@pytest.mark.parametrize("missing", sorted({**FIXED, **RUN}))
def test_leaving_out_any_file_is_refused(missing):
    files = {name: data for name, data in {**FIXED, **RUN}.items() if name != missing}
    with pytest.raises(UntrustedInputError, match="INT-SCHEMA"):
        manifest_of(files).run_keys(RULES.bundle)


@pytest.mark.parametrize(
    "extra", ["runs/C1-ff/run.cbor", "runs/../x", "/etc/passwd", "attestation/quote", "runs/C1-00000000000000ff/notes", "sitecustomize.py"]
)
def test_any_further_file_is_refused(extra):
    with pytest.raises(UntrustedInputError, match="INT-SCHEMA"):
        manifest_of({**FIXED, **RUN, extra: b""}).run_keys(RULES.bundle)


def test_a_name_listed_twice_is_refused():
    entries = manifest_of({**FIXED, **RUN}).files
    with pytest.raises(UntrustedInputError, match="INT-SCHEMA"):
        Manifest(files=(*entries, entries[-1])).run_keys(RULES.bundle)


def test_declared_sizes_over_the_limit_are_refused_before_anything_is_fetched():
    entries = manifest_of({**FIXED, **RUN}).files
    huge = (*entries[:-1], entries[-1].model_copy(update={"size": 2**40}))
    with pytest.raises(UntrustedInputError, match="INT-SIZE"):
        Manifest(files=huge).run_keys(RULES.bundle)
