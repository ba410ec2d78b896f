"""Proposers: what they may propose, that chance alone decides, and that they learn from trials."""

from collections import Counter
from dataclasses import replace

import pytest

from ralph.agent import knobs
from ralph.agent.knobs import PATH, Change, Choice, Number
from ralph.agent.proposers import Program, proposer_for
from ralph.agent.proposers.interface import Context, Proposal, Trial
from ralph.protocol.patch import RecipeTree

PROGRAMS = list(Program)
NOISE = 0.015


def context(
    head: RecipeTree, *, seed: int, trials: tuple[Trial, ...] = (), tried: frozenset[bytes] = frozenset(), king: RecipeTree | None = None
) -> Context:
    return Context(
        head=head,
        king=king or head,
        knobs=knobs.read(head),
        trials=trials,
        tried=tried | {head.digest()},
        reign=0,
        noise_bpb=NOISE,
        seed=seed,
    )


def trial(*changes: tuple[str, object, object], gain: float | None, kept: bool = False) -> Trial:
    made = tuple(Change(name=name, before=before, after=after) for name, before, after in changes)  # type: ignore[arg-type]
    return Trial(reign=0, changes=made, gain_bpb=gain, standard_error_bpb=NOISE, kept=kept)


def follow(program: Program, genesis: RecipeTree, *, seed: int, count: int) -> list[tuple[RecipeTree, Proposal]]:
    """Let a proposer work on a recipe where everything is kept half of the time, by the seed."""
    head, tried, trials, made = genesis, set[bytes](), list[Trial](), list[tuple[RecipeTree, Proposal]]()
    for number in range(count):
        found = context(head, seed=seed * 1000 + number, trials=tuple(trials), tried=frozenset(tried), king=genesis)
        proposal = proposer_for(program).propose(found)
        if proposal is None:
            break
        made.append((head, proposal))
        kept = (seed + number) % 2 == 0
        changed = knobs.changes(head, proposal.tree)
        trials.append(Trial(reign=0, changes=changed, gain_bpb=0.05 if kept else -0.05, standard_error_bpb=NOISE, kept=kept))
        tried.add(proposal.tree.digest())
        head = proposal.tree if kept else head
    return made


@pytest.mark.parametrize("program", PROGRAMS)
def test_proposals_stay_within_what_is_declared_and_touch_only_the_configuration(program: Program, genesis: RecipeTree) -> None:
    for seed in range(2):
        for head, proposal in follow(program, genesis, seed=seed, count=12):
            assert {path for path in head.files if head.files[path] != proposal.tree.files[path]} == {PATH}
            declared = {knob.name: knob for knob in knobs.read(head)}
            changed = knobs.changes(head, proposal.tree)
            assert 1 <= len(changed) <= 3
            assert all(declared[change.name].allows(change.after) for change in changed)


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_tree_is_proposed_twice(program: Program, genesis: RecipeTree) -> None:
    trees = [proposal.tree.digest() for _, proposal in follow(program, genesis, seed=1, count=30)]
    assert len(trees) == 30
    assert len(set(trees)) == len(trees)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_same_context_gives_the_same_proposal(program: Program, genesis: RecipeTree) -> None:
    first = [proposal.tree.digest() for _, proposal in follow(program, genesis, seed=4, count=6)]
    assert first == [proposal.tree.digest() for _, proposal in follow(program, genesis, seed=4, count=6)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_chance_decides_where_research_begins(program: Program, genesis: RecipeTree) -> None:
    firsts = Counter(str(knobs.changes(genesis, follow(program, genesis, seed=seed, count=1)[0][1].tree)) for seed in range(12))
    assert len(firsts) > 4


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_recipe_without_knobs_leaves_nothing_to_propose(program: Program) -> None:
    assert proposer_for(program).propose(context(RecipeTree(files={PATH: b"x = 1\n"}), seed=1)) is None


def test_the_optimiser_moves_a_logarithmic_knob_by_a_factor_of_two_at_most(genesis: RecipeTree) -> None:
    for seed in range(2):
        for head, proposal in follow(Program.OPTIMISER, genesis, seed=seed, count=12):
            declared = {knob.name: knob for knob in knobs.read(head)}
            for change in knobs.changes(head, proposal.tree):
                knob = declared[change.name]
                assert isinstance(knob, Number)
                assert isinstance(change.before, int | float)
                assert isinstance(change.after, int | float)
                if knob.log:
                    assert 0.49 < change.after / change.before < 2.01
                else:
                    assert abs(change.after - change.before) <= 0.26 * (knob.high - knob.low)


def test_the_optimiser_tries_the_other_way_after_a_clear_loss(genesis: RecipeTree) -> None:
    worse = trial(("learning_rate", 0.0025, 0.00125), gain=-0.2)
    proposal = proposer_for(Program.OPTIMISER).propose(context(genesis, seed=3, trials=(worse,)))
    assert proposal is not None
    assert [(change.name, change.after) for change in knobs.changes(genesis, proposal.tree)] == [("learning_rate", 0.005)]


def test_the_optimiser_goes_on_in_the_direction_that_won(genesis: RecipeTree) -> None:
    head = knobs.edit(genesis, {"learning_rate": 0.005})
    assert head is not None
    better = trial(("learning_rate", 0.0025, 0.005), gain=0.22, kept=True)
    proposal = proposer_for(Program.OPTIMISER).propose(context(head, seed=3, trials=(better,), king=genesis))
    assert proposal is not None
    assert [(change.name, change.after) for change in knobs.changes(head, proposal.tree)] == [("learning_rate", 0.01)]


def test_the_optimiser_leaves_a_bracketed_knob_for_others(genesis: RecipeTree) -> None:
    worse = (trial(("beta1", 0.9, 0.8625), gain=-0.1), trial(("beta1", 0.9, 0.9375), gain=-0.1))
    proposal = proposer_for(Program.OPTIMISER).propose(context(genesis, seed=3, trials=worse))
    assert proposal is not None
    assert "beta1" not in {change.name for change in knobs.changes(genesis, proposal.tree)}


def test_the_optimiser_lets_a_knob_rest_that_is_not_in_use(genesis: RecipeTree) -> None:
    inert = trial(("muon_rate", 0.02, 0.04), gain=0.0)
    seen = {
        change.name
        for seed in range(24)
        if (proposal := proposer_for(Program.OPTIMISER).propose(context(genesis, seed=seed, trials=(inert,)))) is not None
        for change in knobs.changes(genesis, proposal.tree)
    }
    assert len(seen) > 4
    assert "muon_rate" not in seen


def test_the_optimiser_wakes_a_resting_knob_when_the_king_has_changed(genesis: RecipeTree) -> None:
    inert = replace(trial(("muon_rate", 0.02, 0.04), gain=0.0), reign=-1)
    seen = {
        change.name
        for seed in range(40)
        if (proposal := proposer_for(Program.OPTIMISER).propose(context(genesis, seed=seed, trials=(inert,)))) is not None
        for change in knobs.changes(genesis, proposal.tree)
    }
    assert "muon_rate" in seen


def test_the_optimiser_wakes_a_resting_knob_when_a_choice_has_changed(genesis: RecipeTree) -> None:
    head = knobs.edit(genesis, {"optimizer": "muon"})
    assert head is not None
    trials = (trial(("muon_rate", 0.02, 0.04), gain=0.0), trial(("optimizer", "adamw", "muon"), gain=0.1, kept=True))
    seen = {
        change.name
        for seed in range(40)
        if (proposal := proposer_for(Program.OPTIMISER).propose(context(head, seed=seed, trials=trials))) is not None
        for change in knobs.changes(head, proposal.tree)
    }
    assert "muon_rate" in seen


def test_the_grammar_switches_every_knob_once_before_any_twice(genesis: RecipeTree) -> None:
    count = sum(isinstance(knob, Choice) for knob in knobs.read(genesis))
    head, trials, tried, names = genesis, list[Trial](), set[bytes](), list[str]()
    for number in range(count):
        proposal = proposer_for(Program.GRAMMAR).propose(context(head, seed=number, trials=tuple(trials), tried=frozenset(tried)))
        assert proposal is not None
        changed = knobs.changes(head, proposal.tree)
        assert len(changed) == 1
        names.append(changed[0].name)
        trials.append(Trial(reign=0, changes=changed, gain_bpb=-0.1, standard_error_bpb=NOISE, kept=False))
        tried.add(proposal.tree.digest())
    assert len(set(names)) == count


def test_the_grammar_combines_near_misses_once_all_was_tried_alone(genesis: RecipeTree) -> None:
    choices = [knob for knob in knobs.read(genesis) if isinstance(knob, Choice)]
    others = [next(choice for choice in knob.choices if choice != knob.value) for knob in choices]
    near = {choices[0].name, choices[-1].name}
    trials = tuple(
        trial((knob.name, knob.value, other), gain=0.02 if knob.name in near else -0.05)
        for knob, other in zip(choices, others, strict=True)
    )
    proposal = proposer_for(Program.GRAMMAR).propose(context(genesis, seed=9, trials=trials))
    assert proposal is not None
    assert {change.name for change in knobs.changes(genesis, proposal.tree)} == near


def test_the_grammar_begins_with_what_an_earlier_king_gained_from(genesis: RecipeTree) -> None:
    earlier = replace(trial(("activation", "gelu", "relu2"), gain=0.1), reign=-1)
    for seed in range(5):
        proposal = proposer_for(Program.GRAMMAR).propose(context(genesis, seed=seed, trials=(earlier,)))
        assert proposal is not None
        assert [change.name for change in knobs.changes(genesis, proposal.tree)] == ["activation"]


def test_the_optimiser_looks_at_logarithmic_knobs_first_and_one_at_a_time(genesis: RecipeTree) -> None:
    wide = [knob.name for knob in knobs.read(genesis) if isinstance(knob, Number) and knob.log]
    trials: tuple[Trial, ...] = ()
    for number in range(len(wide)):
        proposal = proposer_for(Program.OPTIMISER).propose(context(genesis, seed=number, trials=trials))
        assert proposal is not None
        changed = knobs.changes(genesis, proposal.tree)
        assert len(changed) == 1
        assert changed[0].name in wide
        trials += (Trial(reign=0, changes=changed, gain_bpb=0.001, standard_error_bpb=NOISE, kept=False),)
    assert {change.name for one in trials for change in one.changes} == set(wide)


def test_the_optimiser_moves_two_knobs_at_once_when_both_are_known_to_matter(genesis: RecipeTree) -> None:
    worse = (trial(("learning_rate", 0.0025, 0.00125), gain=-0.2), trial(("head_rate", 1.0, 0.5), gain=-0.1))
    proposal = proposer_for(Program.OPTIMISER).propose(context(genesis, seed=3, trials=worse))
    assert proposal is not None
    assert {change.name: change.after for change in knobs.changes(genesis, proposal.tree)} == {"learning_rate": 0.005, "head_rate": 2.0}
