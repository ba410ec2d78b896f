import copy
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.data.stages import Stage
from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import envelope, open_envelope
from ralph.train import segments, transcript
from ralph.train.plan import Plan
from ralph.train.transcript import TAG, TranscriptWriter

MIXTURE = (("code", 0.75), ("docs", 0.25))
PLAN = Plan(stages=(Stage(steps=4, batch_rows=2, sequence=8),), segments=2, mixture=MIXTURE)
STAGED = Plan(stages=(Stage(steps=2, batch_rows=3, sequence=4), Stage(steps=2, batch_rows=2, sequence=8)), segments=2, mixture=MIXTURE)
STATES = [bytes([number]) * 32 for number in range(3)]


def written(losses: tuple[float, ...] = (3.0, 2.5, 2.25, 2.0), seed: int = 5, plan: Plan = PLAN) -> TranscriptWriter:
    writer = TranscriptWriter(seed=seed, plan=plan, start_step=0, start_state=STATES[0])
    for step, loss in enumerate(losses, start=1):
        boundary = {2: STATES[1], 4: STATES[2]}.get(step)
        writer.append(step=step, loss=struct.pack("<d", loss), gradient_norm=struct.pack("<d", 1.0), boundary=boundary)
    return writer


def test_what_was_written_verifies() -> None:
    writer = written()
    summary = transcript.verify(writer.to_bytes(), PLAN)
    assert summary.root == writer.root
    assert summary.seed == 5
    assert summary.losses == (3.0, 2.5, 2.25, 2.0)
    assert summary.boundaries == tuple(STATES)
    assert summary.segments_root == segments.root(PLAN.boundaries, STATES)


def test_tokens_are_counted_by_the_stage_of_each_step() -> None:
    data = written(plan=STAGED).to_bytes()
    assert [entry[1] for entry in open_envelope(TAG, data, limit=1 << 20)["entries"]] == [12, 24, 40, 56]
    assert transcript.verify(data, STAGED).losses == (3.0, 2.5, 2.25, 2.0)
    with pytest.raises(UntrustedInputError, match="does not name this plan"):
        transcript.verify(data, replace(STAGED, packing="best_fit"))


def test_the_root_is_the_same_however_often_it_was_asked_for_on_the_way() -> None:
    writer = TranscriptWriter(seed=5, plan=PLAN, start_step=0, start_state=STATES[0])
    roots = [writer.root]
    for entry in open_envelope(TAG, written().to_bytes(), limit=10_000)["entries"]:
        writer.append(step=entry[0], loss=entry[2], gradient_norm=entry[3], boundary=entry[4])
        roots += [writer.root, writer.root]
    assert len(set(roots)) == 1 + PLAN.steps
    assert roots[-1] == written().root


def test_one_bit_of_one_loss_changes_the_root() -> None:
    bits = struct.unpack("<q", struct.pack("<d", 2.5))[0] + 1
    moved = struct.unpack("<d", struct.pack("<q", bits))[0]
    assert written().root != written((3.0, moved, 2.25, 2.0)).root
    assert written().root != written(seed=6).root


def _no_change(value: Any) -> None:
    value["entries"][1][2] = struct.pack("<d", 2.4)


EDITS = {
    "an edited loss": _no_change,
    "an edited root": lambda value: value.update(root=bytes(32)),
    "another seed": lambda value: value["head"].update(seed=6),
    "a longer plan": lambda value: value["head"]["stages"][0].__setitem__(0, 5),
    "more stages": lambda value: value["head"]["stages"].insert(0, [1, 2, 8]),
    "another packing": lambda value: value["head"].update(packing="best_fit"),
    "another mixture": lambda value: value["head"].update(mixture=[["code", "1.0"]]),
    "a start in the middle": lambda value: value["head"].update(start_step=2),
    "a head with more in it": lambda value: value["head"].update(wall_s=1),
    "a missing step": lambda value: value["entries"].pop(1),
    "swapped steps": lambda value: value["entries"].insert(0, value["entries"].pop(1)),
    "a step counted twice": lambda value: value["entries"].append(value["entries"][-1]),
    "more tokens": lambda value: value["entries"][2].__setitem__(1, 49),
    "a loss that is not finite": lambda value: value["entries"][0].__setitem__(2, struct.pack("<d", float("nan"))),
    "a loss of four bytes": lambda value: value["entries"][0].__setitem__(2, bytes(4)),
    "a missing state": lambda value: value["entries"][1].__setitem__(4, None),
    "a state too many": lambda value: value["entries"][0].__setitem__(4, bytes(32)),
    "a state that is no digest": lambda value: value["entries"][0].__setitem__(4, "x"),
    "an entry with a clock": lambda value: value["entries"][0].append(12),
    "no entries": lambda value: value.update(entries=7),
    "no head": lambda value: value.update(head=[]),
    "another field": lambda value: value.update(note="x"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_transcript_with(name: str) -> None:
    value = copy.deepcopy(open_envelope(TAG, written().to_bytes(), limit=1 << 20))
    EDITS[name](value)
    with pytest.raises(UntrustedInputError) as refusal:
        transcript.verify(envelope(TAG, value), PLAN)
    assert refusal.value.code == "FRD-CHAIN"


def test_a_transcript_over_its_limit_is_not_parsed() -> None:
    with pytest.raises(UntrustedInputError) as refusal:
        transcript.verify(written().to_bytes(), PLAN, limit=100)
    assert refusal.value.code == "INT-SIZE"


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_no_changed_byte_verifies(position: int, value: int) -> None:
    data = bytearray(written().to_bytes())
    position %= len(data)
    if data[position] == value:
        return
    data[position] = value
    with pytest.raises(UntrustedInputError) as refusal:
        transcript.verify(bytes(data), PLAN)
    assert refusal.value.code in ("FRD-CHAIN", "INT-SCHEMA")
