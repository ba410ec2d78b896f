"""A devnet without processes: real Rules, keys, Records, decisions, log and store; only the measured numbers are made up."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ralph.chain.wallet import Hotkey, RecordKey
from ralph.judge.decide import Sealed, decide
from ralph.judge.plan import Beacons, Need, needs
from ralph.protocol.announcement import Environment, Hypothesis
from ralph.protocol.canonical import digest
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.measurement import Failure, Measurement, SignedMeasurement
from ralph.protocol.network import NetworkProfile, devnet_rules
from ralph.protocol.record import Anchor, BeaconRow, CaseRow, KeyEndorsement, Record, Refusal, SignedRecord, endorsement_name
from ralph.records.history import History
from ralph.store.directory import DirectoryStore
from ralph_devnet.words import Names
from tests.made import score

HOSTILE = '<img src=x onerror=alert(1)>[bold red]$x_1$\x1b[2J\u202egnp\x07 "quoted" & more'
ENVIRONMENT = Environment(
    system="Linux x86_64", python="3.11.2", torch="2.13.0", device="a processor", instruction_set="AVX512", threads=1, sandbox="bubblewrap"
)


def name_digest(name: str) -> bytes:
    """Return a digest that stands for something called ``name``."""
    return digest("recipe-net/test-name/v1", {"name": name})


def hypothesis(change: str) -> Hypothesis:
    return Hypothesis(
        change=change, mechanism="m", predicted_gain_bpb=0.1, predicted_low_bpb=0.0, predicted_high_bpb=0.2, falsifier="none on fresh seeds"
    )


@dataclass(frozen=True, kw_only=True)
class Entering:
    """An announcement: who, which tree, and how it is refused if it is."""

    name: str
    tree: str
    change: str = "a change"
    refusal: Refusal | None = None
    normalised: str | None = None
    patch: bytes | None = None


@dataclass(kw_only=True)
class World:
    """A validator's published history, made round by round."""

    path: Path
    nodes: Sequence[str]
    quality: Mapping[str, float]
    """Tree name -> val_bpb without noise."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """Tree name -> what every run of it ends in."""

    def __post_init__(self) -> None:
        rules = devnet_rules(
            genesis_tree=name_digest("genesis"), manifest=name_digest("manifest"), vocabulary=1024, hidden=name_digest("hidden"), sources=()
        )
        self.profile = NetworkProfile(name="devnet", chain=name_digest("chain"), netuid=1, rules=rules)
        self.hotkeys = {name: Hotkey.from_seed(name_digest(f"hotkey {name}")) for name in ("validator", *self.nodes)}
        self.store = DirectoryStore(self.path / "store")
        self._record_key = RecordKey.create(self.path / "record.key", seed=name_digest("record key"))
        self._validator = self.hotkeys["validator"].key_id
        self._endorse()
        self.history = History(self.store, self.profile, self._validator)
        self._opened: dict[bytes, CaseRow] = {}
        self._trees = {name_digest(name): name for name in self.quality}

    @property
    def addresses(self) -> dict[str, str]:
        """Return node name -> hotkey."""
        return {name: key.key_id for name, key in self.hotkeys.items()}

    @property
    def names(self) -> Names:
        return Names(by_hotkey={hotkey: name for name, hotkey in self.addresses.items()})

    def play(self, *entering: Entering) -> "World":
        """Play one round: running contests go on, and these enter."""
        throne, rules = self.history.throne, self.profile.rules
        index = throne.round_index + 1
        beacons = {name: self._beacon(index, name) for name in ("B1", "B2")}
        cases = tuple([self._continued(contest) for contest in throne.contests] + [self._case(one, throne, index) for one in entering])
        previous = self._beacon(index - 1, "B2").beacon if index else None
        drawn = Beacons(one=beacons["B1"].beacon, two=beacons["B2"].beacon, previous_two=previous)
        measured = tuple(self._measurement(need, index) for need in needs(throne, cases, drawn, rules, round_index=index))
        decision = decide(
            throne,
            round_index=index,
            beacon_two=drawn.two,
            cases=cases,
            measurements=tuple(one.measurement for one in measured),
            sealed=Sealed(root=name_digest("sealed"), documents=rules.hidden.crown),
            rules=rules,
        )
        last = self.history.entries[-1] if self.history.entries else None
        record = Record(
            round=index,
            track=rules.track,
            chain=self.profile.chain,
            rules=rules.digest(),
            validator=self._validator,
            previous=last.signed.record.digest() if last else None,
            beacons=(beacons["B1"], beacons["B2"]),
            king=throne.king.tree,
            environments=(ENVIRONMENT,),
            cases=cases,
            measurements=measured,
            outcomes=decision.outcomes,
            crown=decision.crown,
            hidden=rules.data.hidden_commitment,
            watch=decision.watch,
            openings=(),
            demotion=decision.demotion,
        )
        self._publish(record)
        return self

    def play_until_crowned(self, *entering: Entering, rounds: int = 8) -> "World":
        """Play until the king changes."""
        before = len(self.history.throne.lineage)
        self.play(*entering)
        for _ in range(rounds):
            if len(self.history.throne.lineage) > before:
                return self
            self.play()
        raise AssertionError(f"nobody was crowned in {rounds} rounds: {self.history.entries[-1].signed.record.outcomes}")

    def _publish(self, record: Record) -> None:
        last = self.history.entries[-1] if self.history.entries else None
        signed = SignedRecord(record=record, signature=self._record_key.sign(record.digest()))
        anchor = Anchor(
            round=record.round,
            size=record.round + 1,
            root=self.history.root_with(record.to_bytes()),
            record=self.store.put(signed.to_bytes()),
            measurements=None,
            hidden=self.profile.rules.data.hidden_commitment,
            previous=last.anchor_digest if last else None,
        )
        self.history.read(self.store.put(anchor.to_bytes()))

    def _endorse(self) -> None:
        public = self._record_key.public_key
        signature = self.hotkeys["validator"].sign(KeyEndorsement.message(self._validator, public))
        endorsement = KeyEndorsement(hotkey=self._validator, record_key=public, signature=signature)
        self.store.put_named(endorsement_name(self._validator), endorsement.to_bytes())

    def _case(self, one: Entering, throne: Throne, index: int) -> CaseRow:
        opened = one.refusal is None or one.normalised is not None
        tree = name_digest(one.tree) if opened else None
        row = CaseRow(
            hotkey=self.hotkeys[one.name].key_id,
            coldkey=self.hotkeys[one.name].key_id,
            announcement=name_digest(f"announcement {one.name} {one.tree} {index}"),
            parent=throne.king.tree[:8],
            bundle=name_digest(f"bundle {one.name}") if opened else None,
            tree=tree,
            normalised=name_digest(one.normalised or one.tree) if opened else None,
            patch=self.store.put(one.patch or b"--- a/x\n+++ b/x\n") if opened else None,
            hypothesis=hypothesis(one.change) if opened else None,
            environment=ENVIRONMENT.digest(),
            claims=(),
            stage="screen",
            refusal=one.refusal,
        )
        self._opened[row.case] = row
        return row

    def _continued(self, contest: Contest) -> CaseRow:
        row = self._opened[contest.case].model_copy(update={"stage": contest.stage})
        return row if contest.stage == "filter" else row.model_copy(update={"hypothesis": None, "patch": None, "bundle": None})

    def _beacon(self, index: int, name: str) -> BeaconRow:
        return BeaconRow(
            name="B1" if name == "B1" else "B2",
            block=index,
            block_hash=name_digest(f"block {index}"),
            drand_round=index,
            drand_signature=b"",
            beacon=name_digest(f"beacon {name} {index}"),
        )

    def _measurement(self, need: Need, index: int) -> SignedMeasurement:
        tree = self._trees[need.tree]
        failure = self.failures.get(tree)
        noise = random.Random(f"{tree} {need.seed}").gauss(0.0, 0.01)
        measurement = Measurement(
            round=index,
            executor=self._validator,
            role=need.role,
            stage=need.stage,
            tree=need.tree,
            rung="C1",
            seed=need.seed,
            executed=need.executed,
            subset=need.subset,
            environment=ENVIRONMENT.digest(),
            transcript_root=None,
            segments_root=None,
            weights=need.weights or name_digest(f"weights {tree} {need.seed}"),
            parameters=1,
            tokens=1,
            score=None if failure else score(self.quality[tree] + noise, cells=1, draw=name_digest("draw")),
            failure=failure,
        )
        return SignedMeasurement(measurement=measurement, signature=self._record_key.sign(measurement.digest()))


def two_crowns(path: Path) -> World:
    """Play a demo: ada and then bea win, a copy and a peeking model are refused, an honest twin is dropped."""
    world = World(
        path=path,
        nodes=("ada", "bea", "copycat", "peeker", "causal"),
        quality={"genesis": 2.87, "ada-1": 2.70, "ada-2": 2.69, "bea-1": 2.60, "bea-2": 2.55, "peek": 1.0, "same": 2.91},
        failures={"peek": Failure(reason="FRD-CLAIM", detail="7 cells off")},
    )
    copied = Refusal(gate="novelty", reason="INT-DUP", detail=f"same normalised tree as an earlier one {HOSTILE}")
    world.play()
    world.play(
        Entering(name="ada", tree="ada-1", change=f"learning_rate 0.0025 -> 0.005 {HOSTILE}", patch=f"-old\n+{HOSTILE}\n".encode()),
        Entering(name="peeker", tree="peek"),
        Entering(name="causal", tree="same"),
    )
    world.play_until_crowned(Entering(name="copycat", tree="ada-1-copy", normalised="ada-1", refusal=copied))
    world.play_until_crowned(Entering(name="bea", tree="bea-1", change="rope"))
    return world
