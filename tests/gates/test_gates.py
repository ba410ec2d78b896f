"""Each gate: an honest case, and one forgery for each thing it claims to stop."""

from dataclasses import replace
from pathlib import Path

import pytest

from ralph.chain.wallet import Hotkey
from ralph.gates.announced import Entrant, announced, entrants
from ralph.gates.integrity import integrity
from ralph.gates.novelty import novelty
from ralph.gates.scope import scope
from ralph.interfaces import Metagraph, Neuron
from ralph.protocol.announcement import Announcement, Environment, Hypothesis, Slot, case_id
from ralph.protocol.bundle import RunClaim, manifest_of
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.network import devnet_rules
from ralph.protocol.patch import RecipeTree
from ralph.protocol.seeds import nonce
from ralph.protocol.submission import Case, ChainFacts, ClaimedRun, Submission
from ralph.repository.apply import diff
from ralph.repository.genesis import genesis_recipe

KING = genesis_recipe()
CONFIG = "config/base.toml"
TREE = RecipeTree(files={**KING.files, CONFIG: KING.files[CONFIG].replace(b"value = 0.0025", b"value = 0.005", 1)})
RULES = devnet_rules(genesis_tree=KING.digest(), manifest=bytes(32), vocabulary=1024, hidden=bytes(32), sources=())
KEY = Hotkey.from_seed(bytes([1]) * 32)
OTHER = Hotkey.from_seed(bytes([2]) * 32)
BEACON = bytes([3]) * 32
SEED = 0xABCDEF
HYPOTHESIS = Hypothesis(change="c", mechanism="m", predicted_gain_bpb=0.1, predicted_low_bpb=0.0, predicted_high_bpb=0.2, falsifier="f")
ENVIRONMENT = Environment(system="s", python="3", torch="2", device="d", instruction_set="i", threads=1, sandbox="b")
CLAIM = RunClaim(
    rung="C1",
    seed=SEED,
    steps=1,
    batch_rows=1,
    sequence=1,
    tokens=1,
    parameters=1,
    transcript_root=bytes(32),
    segments_root=bytes(32),
    weights=bytes(32),
    final_loss_nats=1.0,
)


def honest(tmp_path: Path, *, tree: RecipeTree = TREE) -> Case:
    announcement = Announcement(
        tree=tree.digest(),
        parent=KING.digest(),
        hotkey=KEY.key_id,
        track=RULES.track,
        hypothesis=HYPOTHESIS.digest(),
        environment=ENVIRONMENT.digest(),
        salt=bytes(32),
    )
    patch = diff(tmp_path, KING, tree)
    manifest = manifest_of({"patch.diff": patch})
    drawn = nonce(beacon_one=BEACON, announcement=announcement.digest(), hotkey=KEY.key_id)
    message = Submission.message(announcement=announcement.digest(), nonce=drawn, bundle=manifest.digest())
    return Case(
        facts=ChainFacts(
            round_index=1,
            hotkey=KEY.key_id,
            coldkey="c",
            registered_at=0,
            slot_announcement=announcement.digest(),
            slot_parent=KING.digest()[:8],
            slot_bundle=manifest.digest(),
            beacon_one=BEACON,
            seeds=(SEED,),
            rung="C1",
        ),
        submission=Submission(
            hotkey=KEY.key_id, announcement=announcement.digest(), nonce=drawn, bundle=manifest.digest(), signature=KEY.sign(message)
        ),
        manifest=manifest,
        announcement=announcement,
        hypothesis=HYPOTHESIS,
        environment=ENVIRONMENT,
        patch=patch,
        runs={("C1", SEED): ClaimedRun(claim=CLAIM, transcript=b"", weights=b"")},
        king=KING,
    )


def test_an_honest_case_passes_integrity(tmp_path: Path):
    assert integrity(honest(tmp_path)).passed


def with_announcement(case: Case, **changes: object) -> Case:
    return replace(case, announcement=case.announcement.model_copy(update=changes))


def with_facts(case: Case, **changes: object) -> Case:
    return replace(case, facts=replace(case.facts, **changes))


FORGERIES = {
    "another salt": (lambda case: with_announcement(case, salt=bytes([9]) * 32), "INT-HASH"),
    "another tree": (lambda case: with_announcement(case, tree=bytes(32)), "INT-HASH"),
    "another hypothesis": (lambda case: replace(case, hypothesis=HYPOTHESIS.model_copy(update={"change": "x"})), "INT-HASH"),
    "another environment": (lambda case: replace(case, environment=ENVIRONMENT.model_copy(update={"threads": 2})), "INT-HASH"),
    "another bundle than on chain": (lambda case: with_facts(case, slot_bundle=bytes(32)), "INT-HASH"),
    "the slot of another hotkey": (lambda case: with_facts(case, hotkey=OTHER.key_id), "INT-SIG"),
    "a signature by another key": (
        lambda case: replace(case, submission=case.submission.model_copy(update={"signature": OTHER.sign(bytes(32))})),
        "INT-SIG",
    ),
    "a nonce from before the announcement": (lambda case: with_facts(case, beacon_one=bytes(32)), "INT-HASH"),
    "a private seed": (lambda case: with_facts(case, seeds=(SEED + 1,)), "INT-SEED"),
    "fewer runs than drawn": (lambda case: with_facts(case, seeds=(SEED, SEED + 1)), "INT-SEED"),
    "another parent in the slot": (lambda case: with_facts(case, slot_parent=bytes(8)), "INT-HASH"),
    "a parent that is not king": (lambda case: replace(case, king=TREE), "INT-PARENT"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_integrity_refuses(tmp_path: Path, name: str):
    forge, code = FORGERIES[name]
    finding = integrity(forge(honest(tmp_path)))
    assert str(finding.reason) == code


def test_scope_gives_the_announced_tree(tmp_path: Path):
    finding, tree = scope(honest(tmp_path), RULES.patch, scratch=tmp_path)
    assert finding.passed
    assert tree == TREE


def test_scope_refuses_a_patch_that_gives_another_tree_than_announced(tmp_path: Path):
    case = with_announcement(honest(tmp_path), tree=bytes(32))
    assert str(scope(case, RULES.patch, scratch=tmp_path)[0].reason) == "INT-HASH"


def test_scope_refuses_a_change_of_what_is_not_patchable(tmp_path: Path):
    tree = RecipeTree(files={**KING.files, "README.md": b"changed"})
    assert str(scope(honest(tmp_path, tree=tree), RULES.patch, scratch=tmp_path)[0].reason) == "INT-SCOPE"


def judge_novelty(tree: RecipeTree, throne: Throne, *, hotkey: str = KEY.key_id, earlier: dict[bytes, str] | None = None):
    return novelty(
        normalised=tree.normalised_digest(),
        hotkey=hotkey,
        king_normalised=KING.normalised_digest(),
        throne=throne,
        earlier_in_queue=earlier or {},
    )


THRONE = Throne.genesis(KING.digest())
COSMETIC = RecipeTree(files={**TREE.files, CONFIG: TREE.files[CONFIG] + b"\n# mine\n"})


def test_a_new_idea_is_novel():
    assert judge_novelty(TREE, THRONE).passed


@pytest.mark.parametrize("tree", [TREE, COSMETIC], ids=["the same bytes", "a comment added"])
def test_a_copy_of_somebodys_earlier_patch_is_refused(tree):
    throne = replace(THRONE, seen_patches=((TREE.normalised_digest(), OTHER.key_id),))
    assert str(judge_novelty(tree, throne).reason) == "INT-DUP"


def test_a_copy_later_in_the_same_queue_is_refused():
    assert str(judge_novelty(COSMETIC, THRONE, earlier={TREE.normalised_digest(): OTHER.key_id}).reason) == "INT-DUP"


def test_the_king_with_a_comment_added_is_no_change():
    assert str(judge_novelty(RecipeTree(files={**KING.files, CONFIG: KING.files[CONFIG] + b"# x\n"}), THRONE).reason) == "INT-DUP"


def test_ones_own_failed_patch_may_come_again_but_only_once_a_reign():
    throne = replace(THRONE, seen_patches=((TREE.normalised_digest(), KEY.key_id),))
    assert judge_novelty(TREE, throne).passed
    assert str(judge_novelty(TREE, replace(throne, entered=frozenset({TREE.normalised_digest()}))).reason) == "INT-DUP"


def neuron(key: str, coldkey: str) -> Neuron:
    return Neuron(uid=0, hotkey=key, coldkey=coldkey, stake=0, validator_permit=False, last_update=0, registered_at=0, incentive=0)


def slot(number: int, *, track: int = 1) -> Slot:
    return Slot(track=track, parent=KING.digest()[:8], announcement=bytes([number]) * 32)


def test_only_registered_hotkeys_with_fresh_slots_of_this_track_take_part():
    metagraph = Metagraph(block=8, neurons=(neuron("a", "x"), neuron("b", "y"), neuron("c", "z"), neuron("d", "w")))
    slots = {
        "a": slot(1).to_bytes(),
        "b": b"not a slot",
        "c": slot(3, track=2).to_bytes(),
        "d": slot(4).to_bytes(),
        "unregistered": slot(5).to_bytes(),
    }
    throne = replace(THRONE, seen_cases=frozenset({case_id(slot(4).announcement, "d")}))
    assert [one.hotkey for one in entrants(slots, metagraph, throne, RULES)] == ["a"]


def test_copying_a_running_contests_digest_into_ones_own_slot_does_not_take_its_place():
    contest = Contest(
        announcement=slot(1).announcement, hotkey="a", coldkey="x", tree=bytes(32), normalised=bytes(32), stage="filter", opened_round=0
    )
    throne = replace(THRONE, contests=(contest,), seen_cases=frozenset({contest.case}))
    metagraph = Metagraph(block=8, neurons=(neuron("a", "x"), neuron("thief", "t")))
    found = entrants({"a": slot(1).to_bytes(), "thief": slot(1).to_bytes()}, metagraph, throne, RULES)
    assert {one.hotkey: one.case == contest.case for one in found} == {"a": True, "thief": False}


def entrant(number: int, coldkey: str) -> Entrant:
    return Entrant(hotkey=f"h{number}", coldkey=coldkey, registered_at=0, slot=slot(number))


def test_a_coldkey_may_enter_no_more_than_its_cap_and_the_beacon_chooses_which():
    many = [entrant(number, "one") for number in range(1, 6)]
    results = [announced(one, many, THRONE, RULES, beacon_one=BEACON) for one in many]
    assert sum(result.passed for result in results) == RULES.announcements_per_coldkey
    assert {str(result.reason) for result in results if not result.passed} == {"INT-CAP"}
    other = [announced(one, many, THRONE, RULES, beacon_one=bytes(32)).passed for one in many]
    assert other != [result.passed for result in results]


def test_a_patch_for_another_parent_is_refused():
    wrong = Entrant(hotkey="h", coldkey="c", registered_at=0, slot=replace(slot(1), parent=bytes(8)))
    assert str(announced(wrong, [wrong], THRONE, RULES, beacon_one=BEACON).reason) == "INT-PARENT"
