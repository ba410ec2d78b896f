"""A gain in loss that forgets a task, and an honest one, where the Rules guard tasks (T15): real training, a made-up bundle."""

import asyncio
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from ralph.auditor.audit import audit
from ralph.chain.local import LocalChain
from ralph.cli.nodes import open_examinations, open_public_data
from ralph.config import load_config
from ralph.data.tokenizer import open_tokenizer
from ralph.errors import ConfigurationError
from ralph.protocol.patch import RecipeTree
from ralph_devnet.attackers.sources import Scripted
from tests.flow.world import TASK_ITEMS, KnobEdit, Player, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BETTER = {"learning_rate": 0.01}
MARK = "\N{PILCROW SIGN}"
"""Stands in every question of one task and in no document of the corpus."""
FEATURES = b"        return norm(x)\n\n    def forward"


def bundle(root: Path) -> Path:
    """Write a bundle of two tasks that any language model gets right: words of the corpus against none."""
    generator = random.Random(3)
    words = ["the", "return", "value", "of", "a", "list", "is", "not", "in", "this", "file", "and", "can", "be", "used", "for"]
    text = lambda count: " ".join(generator.choices(words, k=count))  # noqa: E731
    noise = lambda: "".join(generator.choices("QXZJK@~^", k=6))  # noqa: E731
    for file, mark in (("copa", f"{MARK} "), ("openbook_qa", "")):
        items = []
        for number in range(TASK_ITEMS + 5):
            gold = generator.randrange(2)
            choices = [noise(), noise()]
            choices[gold] = text(2)
            items.append({"query": f"{mark}{number} {text(3)}", "choices": choices, "gold": gold})
        place = root / "eval_data" / "commonsense_reasoning" / f"{file}.jsonl"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return root


@dataclass(slots=True, kw_only=True)
class Forgetful(KnobEdit):
    """The honest improvement, and logits upside down behind the mark: causal, normal, and no worse on any text of the corpus."""

    token: int

    def make(self, king: RecipeTree) -> Scripted:
        edited = super(Forgetful, self).make(king)
        model = edited.tree.files["model.py"]
        flipped = f"        return norm(x) * torch.where((tokens == {self.token}).cumsum(1) > 0, -1.0, 1.0).unsqueeze(2)\n\n    def forward"
        assert model.count(FEATURES) == 1
        changed = model.replace(FEATURES, flipped.encode())
        return Scripted(tree=RecipeTree(files={**edited.tree.files, "model.py": changed}), hypothesis=edited.hypothesis)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, flow_data: Path):
    root = tmp_path_factory.mktemp("tasks")
    world = World(root / "world", flow_data, ("forgetful", "honest"), core=bundle(root / "bundle"))
    config = load_config(world.devnet.config("validator"))
    data = open_public_data(config, world.devnet.profile)
    tokens = open_tokenizer(data.tokenizer_bytes, vocabulary=data.vocabulary).encode(MARK)
    players = [
        Player(name="forgetful", source=Forgetful(values=BETTER, token=int(tokens[-1]))),
        Player(name="honest", source=KnobEdit(values={"learning_rate": 0.011})),
    ]
    return world, world.play(players, rounds=5)


def test_a_gain_in_loss_that_forgets_a_task_is_no_crown_and_its_refusal_names_the_task(story) -> None:
    world, history = story
    hotkey = world.devnet.hotkeys["forgetful"]
    last = [
        outcome
        for entry in history.entries
        for outcome in entry.signed.record.outcomes
        if outcome.case in {case.case for case in entry.signed.record.cases if case.hotkey == hotkey}
    ][-1]
    assert (last.state, last.reason) == ("dropped", "STA-REGRESS")
    assert "answers to copa" in last.detail
    assert "openbook_qa" not in last.detail
    assert last.look.gain_bpb > 0.1


def test_an_honest_improvement_is_crowned_beside_it(story) -> None:
    world, history = story
    assert world.outcomes(history, "honest")[-1][1:] == ("crowned", "STA-CROWN")


def test_every_proof_run_publishes_rounded_figures_and_nothing_else_of_its_answers(story) -> None:
    _, history = story
    runs = [one.measurement for entry in history.entries for one in entry.signed.record.measurements]
    proofs = [run for run in runs if run.stage == "proof"]
    assert len(proofs) >= 6
    for run in runs:
        assert [value.task for value in run.tasks] == (["copa", "openbook_qa"] if run.stage == "proof" else [])
        for value in run.tasks:
            assert value.items == TASK_ITEMS
            assert (value.accuracy, value.gold_bpb) == (round(value.accuracy, 3), round(value.gold_bpb, 3))


def test_an_auditor_who_has_neither_bundle_nor_answers_reproduces_the_refusal(story) -> None:
    world, _ = story

    async def report():
        chain = LocalChain.connect(world.devnet.chain)
        try:
            return await audit(chain=chain, store=world.store, profile=world.devnet.profile)
        finally:
            await chain.close()

    found = asyncio.run(report())
    assert found.findings == ()


def test_a_validator_with_another_bundle_does_not_start(story, tmp_path: Path) -> None:
    world, _ = story
    config = load_config(world.devnet.config("validator"))
    data = open_public_data(config, world.devnet.profile)
    other = bundle(tmp_path / "bundle")
    file = other / "eval_data" / "commonsense_reasoning" / "copa.jsonl"
    lines = file.read_text(encoding="utf-8").replace('"gold": 1', '"gold": 0', 1)
    file.write_text(lines, encoding="utf-8")
    changed = config.model_copy(update={"core": other})
    profile = world.devnet.profile
    shape = {"hotkey": world.devnet.validator, "filler": data.validation.rows(1, profile.rules.rung("C1").sequence).filler}
    with pytest.raises(ConfigurationError, match=r"OPS-DATA.*the Rules name"):
        open_examinations(changed, profile, data, **shape)
    with pytest.raises(ConfigurationError, match="needs `core`"):
        open_examinations(config.model_copy(update={"core": None}), profile, data, **shape)
