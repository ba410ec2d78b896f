"""What a demo says of itself follows from Records, and a claim that does not hold is named."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ralph.protocol.reasons import Reason
from ralph.protocol.record import Refusal
from ralph_devnet.attackers.cast import Role
from ralph_devnet.facts import CastFact, cast_facts, kings, submissions
from ralph_devnet.outcome import Audit, Weights
from tests.devnet.material import CAST, outcome_of, tried
from tests.devnet.synthetic import Entering, World, two_crowns


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return two_crowns(tmp_path_factory.mktemp("world"))


def test_a_demo_that_showed_everything_holds(world: World) -> None:
    outcome = outcome_of(world)
    assert [claim.name for claim in outcome.claims if not claim.holds] == []
    assert outcome.holds
    assert outcome.missing == ()


def test_the_lineage_names_makers_gains_and_changes(world: World) -> None:
    found = kings(world.history.entries, world.names)
    assert [(king.tag, king.name) for king in found] == [("recipe-v1.0.0", "genesis"), ("recipe-v1.1.0", "ada"), ("recipe-v1.2.0", "bea")]
    assert found[0].gain_bpb is None
    assert found[0].crowned_round is None
    assert found[1].gain_bpb == pytest.approx(0.17, abs=0.03)
    assert found[2].gain_bpb == pytest.approx(0.10, abs=0.03)
    assert found[1].proof_runs in (4, 8)
    assert found[2].change == "rope"


def test_a_king_is_plotted_from_all_runs_of_his_reign_and_before_those_from_his_proof(world: World) -> None:
    genesis, ada, bea = kings(world.history.entries, world.names)
    seeds = {
        item.measurement.seed
        for entry in world.history.entries
        for item in entry.signed.record.measurements
        if item.measurement.stage in ("pool", "proof") and item.measurement.tree == genesis.tree
    }
    assert genesis.level is not None
    assert genesis.level.runs == len(seeds)
    assert genesis.level.mean == pytest.approx(2.87, abs=0.02)
    assert ada.level_of == "reign"
    assert bea.level_of == "proof"
    assert bea.level is not None
    assert bea.level.runs == bea.proof_runs


def test_every_row_of_every_record_is_a_submission_row(world: World) -> None:
    rows = submissions(world.history.entries, world.names)
    assert len(rows) == sum(len(entry.signed.record.outcomes) for entry in world.history.entries)
    crowned = [row for row in rows if row.state == "crowned"]
    assert [row.name for row in crowned] == ["ada", "bea"]
    assert crowned[1].change == "rope"


def test_a_refused_submission_has_no_gain_and_no_level(world: World) -> None:
    copy = next(row for row in submissions(world.history.entries, world.names) if row.name == "copycat")
    assert (copy.state, copy.reason, copy.gain_bpb, copy.level, copy.runs) == ("rejected", "INT-DUP", None, None, None)


def test_cheats_are_settled_by_the_signed_record_and_twins_by_their_merits(world: World) -> None:
    found = {fact.role.name: fact for fact in cast_facts(CAST, submissions(world.history.entries, world.names), world.addresses)}
    assert all(fact.as_expected for fact in found.values())
    assert found["peeker"].twin_name == "causal"
    assert found["causal"].row is not None
    assert found["causal"].row.state == "dropped"


def test_the_twin_of_a_copy_is_whom_it_copied(world: World) -> None:
    copycat = next(fact for fact in cast_facts(CAST, submissions(world.history.entries, world.names), world.addresses))
    assert copycat.twin_name == "ada"
    assert copycat.twin_row is not None
    assert copycat.twin_row.state == "crowned"


def test_a_cheat_refused_for_another_reason_is_not_as_expected(world: World) -> None:
    role = Role(name="peeker", description="", expected=Reason.FRD_REPLAY, twin=None)
    fact = cast_facts([role], submissions(world.history.entries, world.names), world.addresses)[0]
    assert fact.refused
    assert not fact.as_expected
    assert not replace(outcome_of(world), cast=(fact,)).holds


def test_a_twin_that_was_refused_breaks_the_demo(world: World) -> None:
    role = Role(name="peeker", description="", expected=None, twin=None)
    fact = cast_facts([role], submissions(world.history.entries, world.names), world.addresses)[0]
    assert not fact.as_expected


def test_a_twin_that_never_delivered_was_not_judged(tmp_path: Path) -> None:
    world = World(path=tmp_path, nodes=("causal",), quality={"genesis": 2.87})
    world.play().play(Entering(name="causal", tree="same", refusal=Refusal(gate="intake", reason="INT-ABSENT", detail="no bundle")))
    role = Role(name="causal", description="", expected=None, twin=None)
    fact = cast_facts([role], submissions(world.history.entries, world.names), world.addresses)[0]
    assert fact.settled
    assert not fact.as_expected


def test_a_twin_whose_contest_ended_with_the_king_was_judged_if_he_was_measured(world: World) -> None:
    row = next(row for row in submissions(world.history.entries, world.names) if row.state == "crowned")
    void = replace(row, state="void", reason=Reason.INT_PARENT.value)
    role = Role(name="causal", description="", expected=None, twin=None)
    assert CastFact(role=role, row=void, twin_name=None, twin_row=None).as_expected
    assert not CastFact(role=role, row=replace(void, runs=None), twin_name=None, twin_row=None).as_expected


def test_a_role_without_a_row_is_missing(world: World) -> None:
    role = Role(name="nobody", description="", expected=Reason.INT_DUP, twin=None)
    outcome = replace(outcome_of(world), cast=cast_facts([role], outcome_of(world).submissions, world.addresses))
    assert outcome.missing == ("nobody is refused with INT-DUP: no final row in the records",)


def test_a_cheat_on_the_throne_breaks_the_demo(world: World) -> None:
    cheat = Role(name="bea", description="", expected=Reason.INT_DUP, twin=None)
    fact = cast_facts([cheat], submissions(world.history.entries, world.names), world.addresses)[0]
    outcome = replace(outcome_of(world), cast=(fact,))
    assert outcome.missing[0].startswith("the king changes 2 times, never to a cheat: 2 of 2")


def test_one_crown_suffices_for_a_short_demo_only(tmp_path: Path) -> None:
    world = World(path=tmp_path, nodes=("ada",), quality={"genesis": 2.87, "ada-1": 2.70})
    world.play().play_until_crowned(Entering(name="ada", tree="ada-1"))
    outcome = replace(outcome_of(world), cast=())
    assert not outcome.holds
    assert replace(outcome, short=True).holds


@pytest.mark.parametrize(
    ("weights", "equal"),
    [
        (Weights(due={"ada": 65_535}, on_chain={"ada": 65_535}), True),
        (Weights(due={"ada": 40_000, "bea": 25_535}, on_chain={"ada": 65_535, "bea": 41_835}), True),
        (Weights(due={"ada": 65_535}, on_chain={"bea": 65_535}), False),
        (Weights(due={"ada": 65_535}, on_chain={}), False),
        (Weights(due={}, on_chain={}), False),
    ],
)
def test_weights_hold_only_when_set_and_equal_to_what_the_records_give(world: World, weights: Weights, equal: bool) -> None:
    assert replace(outcome_of(world), weights=weights).holds is equal


def test_fewer_than_half_discarded_breaks_the_demo(world: World) -> None:
    experiments = (tried("ada", 1, "keep"), tried("ada", 2, "keep"), tried("bea", 1, "discard"))
    assert replace(outcome_of(world), experiments=experiments).missing == (
        "at least half of the honest miners' ideas are discarded in private: 1 of 3",
    )


def test_baselines_and_confirmations_are_no_ideas(world: World) -> None:
    experiments = tuple(tried("ada", index, "keep", kind=kind) for index, kind in enumerate(("baseline", "confirm", "rebase")))
    outcome = replace(outcome_of(world), experiments=experiments)
    assert outcome.tries == ()
    assert not outcome.holds


@pytest.mark.parametrize("status", [1, 2, 3])
def test_an_audit_that_did_not_reproduce_breaks_the_demo(world: World, status: int) -> None:
    assert not replace(outcome_of(world), audit=Audit(status=status, verdict="diverged", report={})).holds
    assert not replace(outcome_of(world), audit=None).holds


def test_a_demo_that_was_stopped_says_why_first(world: World) -> None:
    outcome = replace(outcome_of(world), stopped_because="validator ended (exit status 1): disk full")
    assert not outcome.holds
    assert outcome.missing[0] == "validator ended (exit status 1): disk full"


def test_the_document_is_ascii_json_in_which_nothing_unmeasured_appears(world: World) -> None:
    text = outcome_of(world).to_json()
    document = json.loads(text)
    assert text.isascii()
    assert None not in list(_leaves(document))
    refused = next(row for row in document["submissions"] if row["name"] == "copycat")
    assert "gain_bpb" not in refused
    assert "level" not in refused
    assert "gain_bpb" not in document["kings"][0]


def test_the_document_holds_what_a_program_needs(world: World) -> None:
    document = outcome_of(world).document()
    assert document["holds"] is True
    assert document["missing"] == []
    assert document["seed"] == 7
    assert document["machine"]["environment"]["torch"] == "2.13.0"
    assert document["rounds"] == len(world.history.entries)
    assert [one["miner"] for one in document["experiments"]] == ["ada", "ada", "ada", "bea", "bea"]
    assert set(document["paths"]) == {"home", "logs"}
    assert document["seconds"] == {"round 0": 12.3}
    assert [fact["role"]["name"] for fact in document["cast"]] == [role.name for role in CAST]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
