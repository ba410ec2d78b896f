"""What people read about published records."""

import itertools
from pathlib import Path

import pytest

from ralph.cli.explain import _steps, looked_at
from ralph.cli.history import read_situation
from ralph.cli.main import app
from ralph.config import Config, Keys, load_config, save_config, save_profile
from ralph.protocol.record import Refusal
from tests.auditor.world import GENESIS, HYPOTHESIS, Forgery, World, edited, key, prepare_data


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Alice is screened, filtered and crowned; bob is worse and dropped; later bob is refused, then absent."""
    world = World.create(tmp_path_factory.mktemp("told") / "world", prepare_data(tmp_path_factory.mktemp("told-data")))
    world.trees = {"alice": edited(GENESIS, "model.py", "depth = 2", "depth = 3"), "bob": edited(GENESIS, "config/base.toml", "16", "32")}
    world.gains = {world.trees["alice"].digest(): 0.3, world.trees["bob"].digest(): 0.002}
    world.play()
    world.play(announce=("alice", "bob"))
    for _ in range(2):
        world.play()
    keys = Keys(wallets=world.home / "none", coldkey="none", hotkey="none")
    save_profile(world.home / "devnet.toml", world.profile)
    config = Config(
        state=world.home / "state",
        profile=world.home / "devnet.toml",
        chain=world.home / "chain.sqlite",
        store=world.home / "store",
        data=world.home / "none",
        keys=keys,
    )
    save_config(world.home / "config.toml", config)
    return world


def invoke(capsys: pytest.CaptureFixture[str], world: World, *words: str) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        app([*words, "--config", str(world.home / "config.toml")])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_a_crown_is_explained_from_screen_to_crown(told: World, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, told, "explain", key("alice").key_id)
    assert status == 0
    assert "crowned (STA-CROWN)" in out
    assert f"change: {HYPOTHESIS.change}" in out
    assert [line.split(":")[0].strip() for line in out.splitlines() if line.startswith("  round")] == [
        "round 1, screen",
        "round 2, filter",
        "round 3, proof",
    ]


def test_a_drop_is_explained_with_measured_value_threshold_and_what_would_help(told: World, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, told, "explain", key("bob").key_id)
    assert status == 1
    assert "needs more than 0.50" in out
    assert "power: effect +" in out
    assert "next step: Look for a larger effect" in out


def test_a_case_is_found_by_the_first_digits_of_its_id_or_announcement(told: World, capsys: pytest.CaptureFixture[str]) -> None:
    case = told.records[1].record.cases[0]
    for name in (case.case.hex()[:8], case.announcement.hex()[:12].upper()):
        assert case.hotkey in invoke(capsys, told, "explain", name)[1]


@pytest.mark.parametrize("name", ["12345", "ffffffff", "\x1b[2J"])
def test_a_name_that_means_nothing_is_said(told: World, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert invoke(capsys, told, "explain", name)[0] == 3


def test_a_registered_hotkey_that_announced_nothing_is_incomplete(told: World, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, told, "explain", key("owner").key_id)
    assert status == 2
    assert "has announced nothing" in out


def test_the_estimate_behind_a_hint_is_that_of_the_record(told: World) -> None:
    seen = read_situation(told.home / "config.toml")
    found = 0
    for name in ("alice", "bob"):
        for step in itertools.chain.from_iterable(_steps(seen, key(name).key_id).values()):
            looked = looked_at(step, told.profile.rules)
            assert looked is not None
            assert step.outcome.look is not None
            assert (looked.n, looked.est) == (step.outcome.look.runs, step.outcome.look.gain_bpb)
            found += 1
    assert found == 4


def test_status_shows_king_lineage_and_weights(told: World, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, told, "status")
    assert status == 0
    assert f"king recipe-v1.1.0: {key('alice').key_id}, since round 3" in out
    assert "gain +0.29" in out
    assert "no contest is running" in out
    assert f": {key('alice').key_id}" in out


def test_a_crown_says_what_it_rests_on_and_what_it_seals(told: World, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = invoke(capsys, told, "explain", key("alice").key_id)
    assert status == 0
    assert "crown: measured on one sub-pool of hidden documents, and nobody has confirmed it on others; it seals 3 further documents" in out


def test_status_says_what_was_opened_and_how_the_king_does_on_audit(
    told: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = told.copy(tmp_path / "copy")
    assert "hidden documents: rotation 0; opened so far: nothing" in invoke(capsys, told, "status")[1]
    world.play()
    (world.home / "config.toml").write_text((told.home / "config.toml").read_text().replace(str(told.home), str(world.home)))
    status, out = invoke(capsys, world, "status")
    assert status == 0
    assert "rotation 1; opened so far: screen-0, confirm-0, audit-0" in out
    assert "the king beside the one before him: +0.29" in out
    assert "bpb on audit; audit decides nothing" in out


def test_status_says_that_records_are_stale(told: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = told.copy(tmp_path / "copy")
    world.produce(4 * world.profile.rules.rounds.length)
    text = (told.home / "config.toml").read_text().replace(str(told.home), str(world.home))
    (world.home / "config.toml").write_text(text)
    status, out = invoke(capsys, world, "status")
    assert status == 2
    assert "STALE" in out


def test_a_refusal_is_explained_and_its_text_cannot_steer_the_terminal(
    told: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = told.copy(tmp_path / "copy")
    world.trees["bob"] = edited(world.trees["alice"], "config/base.toml", "16", "8")
    refusal = Refusal(gate="scope", reason="INT-SCOPE", detail="touches \x1b[2Jnot_patchable.py")
    world.play(Forgery(cases=lambda cases: tuple(case.model_copy(update={"refusal": refusal}) for case in cases)), announce=("bob",))
    (world.home / "config.toml").write_text((told.home / "config.toml").read_text().replace(str(told.home), str(world.home)))
    status, out = invoke(capsys, world, "explain", key("bob").key_id)
    assert status == 1
    assert "rejected at the gate scope: touches \\x1b[2Jnot_patchable.py" in out
    assert "next step: Change only the paths and file types that the Rules list." in out
    assert "(side: miner)" in out


@pytest.fixture(scope="module")
def fallen(told: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Alice turns out to have been lucky: her runs after the crown are worse than the genesis recipe's."""
    world = told.copy(tmp_path_factory.mktemp("fallen") / "world")
    world.gains[world.trees["alice"].digest()] = -0.3
    for _ in range(3):
        world.play()
    config = load_config(world.home / "config.toml")
    places = {"state": world.home / "state", "chain": world.home / "chain.sqlite", "store": world.home / "store"}
    save_config(world.home / "config.toml", config.model_copy(update=places))
    return world


def test_what_became_of_a_crown_is_explained(told: World, fallen: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert "reign: king as recipe-v1.1.0, probation" in invoke(capsys, told, "explain", key("alice").key_id)[1]
    out = invoke(capsys, fallen, "explain", key("alice").key_id)[1]
    assert "reign: king as recipe-v1.1.0, demoted in round 6 (STA-ROLLBACK): gain over the king before -0.3" in out
    assert "next step: Nothing to do: the king before reigns again" in out


def test_status_marks_who_was_demoted_and_who_is_on_probation(told: World, fallen: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert "on probation: 0 of 8 runs after the crown are in" in invoke(capsys, told, "status")[1]
    status, out = invoke(capsys, fallen, "status")
    assert status == 0
    assert "king recipe-v1.0.0: the genesis recipe" in out
    assert "demoted, off the main line" in out


def test_history_tells_crowns_and_demotions_in_order(told: World, fallen: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert [line.split(",")[0] for line in invoke(capsys, told, "history")[1].splitlines()] == [
        f"round 3: recipe-v1.1.0 of {key('alice').key_id} is crowned"
    ]
    first, second = invoke(capsys, fallen, "history")[1].splitlines()
    assert first.endswith("(off the main line today)")
    assert "is demoted (STA-ROLLBACK)" in second
    assert second.endswith("12 measurements. recipe-v1.0.0 reigns again as recipe-v1.1.1")
