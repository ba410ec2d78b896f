"""A validator's published history, made by production code on a real local chain: only training and scores are invented.

``World.play`` makes one round. A ``Forgery`` changes something on the way, after which everything is signed as
if nothing had happened: the operator holds the keys.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from ralph.auditor.audit import audit
from ralph.auditor.report import Report
from ralph.chain.local import BlockProducer, ChainParameters, LocalChain, create
from ralph.chain.waiting import read_beacon
from ralph.chain.wallet import Hotkey, RecordKey
from ralph.data.corpora import stdlib_documents
from ralph.data.dataset import Rows
from ralph.data.poolkey import key_beside
from ralph.data.prepare import prepare
from ralph.data.shards import data_manifest, open_data, open_pool
from ralph.errors import ChainRejected
from ralph.evaluate.estimator import LN2
from ralph.gates.announced import entrants
from ralph.gates.intake import Docket, Intake
from ralph.judge.decide import decide, queue_order
from ralph.judge.plan import Beacons, Need, filter_seeds, follow_ups, needs, seeds
from ralph.judge.weights import weights
from ralph.protocol.announcement import Announcement, Environment, Hypothesis, Slot, anchor_payload
from ralph.protocol.bundle import LICENCE, RunClaim, manifest_of, run_prefix
from ralph.protocol.canonical import blob_digest, digest
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.measurement import MAX_EXACT_BYTES, ExactScores, Failure, Measurement, Score, SignedMeasurement, SourceValue, set_digest
from ralph.protocol.merkle import EMPTY_ROOT
from ralph.protocol.network import NetworkProfile, devnet_rules
from ralph.protocol.patch import RecipeTree
from ralph.protocol.pool import MAX_OPENINGS_BYTES, OpenedSubset
from ralph.protocol.record import (
    MAX_ANCHOR_BYTES,
    Anchor,
    BeaconRow,
    CaseRow,
    KeyEndorsement,
    OpeningRow,
    Record,
    SignedRecord,
    endorsement_name,
)
from ralph.protocol.rounds import Window, window
from ralph.protocol.scoring_rules import HiddenRules
from ralph.protocol.seeds import nonce
from ralph.protocol.submission import Submission, submission_name
from ralph.records.history import Entry
from ralph.records.log import MerkleLog
from ralph.repository.apply import diff
from ralph.repository.stored import store_tree
from ralph.repository.trees import materialise
from ralph.store.directory import DirectoryStore
from ralph.train import segments, wire
from ralph.train.plan import plan
from ralph.train.safetensors import dump
from ralph.train.transcript import TranscriptWriter
from ralph.validator.guarding import DocumentLosses
from ralph.validator.hidden import HiddenRound, Pools
from ralph.validator.opening import Openings
from tests import made

Answer = TypeVar("Answer")
CHAIN_SEED = digest("test/chain", 1)
ENVIRONMENT = Environment(system="test", python="3", torch="2", device="none", instruction_set="none", threads=1, sandbox="none")
HYPOTHESIS = Hypothesis(
    change="a knob", mechanism="it helps", predicted_gain_bpb=0.1, predicted_low_bpb=0.0, predicted_high_bpb=0.2, falsifier="no gain"
)
MINERS = ("alice", "bob")
HIDDEN = HiddenRules(rotation_rounds=4, screen=6, confirm=12, audit=6, crown=3, agreement_level=0.999, watched_runs=2)
"""Round 4 begins the second rotation."""
CONFIG = "[batch_rows]\nvalue = 16\n\n[mixture_code]\nvalue = 1.0\n\n[mixture_docs]\nvalue = 1.0\n\n[rate]\nvalue = 1.0\n"
GENESIS = RecipeTree(files={"config/base.toml": CONFIG.encode(), "model.py": b"depth = 2\n"})
"""A recipe that is never run."""


def key(name: str) -> Hotkey:
    return Hotkey.from_seed(digest("test/hotkey", name))


def prepare_data(directory: Path) -> Path:
    """Prepare a little real text; return its directory."""
    documents = list(itertools.islice(stdlib_documents(), 400))
    prepare(directory / "public", hidden=directory / "hidden", vocabulary=320, documents=documents)
    return directory


def open_pools(data: Path) -> Pools:
    """Open what ``prepare_data`` wrote."""
    pool = open_pool(data / "hidden", key=key_beside(data / "hidden"), expect=None)
    return Pools(pools=(pool,), data=open_data(data / "public", expect=data_manifest(data / "public").digest()))


def same(value: Any) -> Any:
    return value


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """What an operator changes before he signs."""

    cases: Callable[[tuple[CaseRow, ...]], tuple[CaseRow, ...]] = same
    measurements: Callable[[tuple[Measurement, ...]], tuple[Measurement, ...]] = same
    """Before their digest is anchored."""
    opened: Callable[[tuple[Measurement, ...]], tuple[Measurement, ...]] = same
    """After their digest was anchored."""
    beacons: Callable[[tuple[BeaconRow, ...]], tuple[BeaconRow, ...]] = same
    decide: bool = True
    """Whether the outcome follows from the forged inputs."""
    record: Callable[[Record], Record] = same
    anchor: Callable[[Anchor], Anchor] = same
    weights: Callable[[dict[str, int]], dict[str, int]] = same
    opens: Callable[[OpenedSubset], OpenedSubset] = same
    """Each subset that is over."""
    scores: Callable[[ExactScores], ExactScores] = same
    """The exact scores with it."""
    pays: bool = True
    commits: bool = True
    """Whether the measurements' digest goes on chain."""


HONEST = Forgery()


@dataclass(kw_only=True)
class World:
    """One validator, two miners, a chain and a store below ``home``."""

    home: Path
    profile: NetworkProfile
    pools: Pools
    """Real text, sealed as a validator has it; below another directory."""
    throne: Throne
    entries: list[Entry] = field(default_factory=list)
    records: list[SignedRecord] = field(default_factory=list)
    anchors: list[bytes] = field(default_factory=list)
    drawn: list[tuple[BeaconRow, BeaconRow]] = field(default_factory=list)
    trees: dict[str, RecipeTree] = field(default_factory=dict)
    """Miner -> what he submits."""
    gains: dict[bytes, float] = field(default_factory=dict)
    """Tree -> how much better than genesis it trains."""
    broken: set[bytes] = field(default_factory=set)
    """Trees whose runs fail."""
    reproduced: set[bytes] = field(default_factory=set)
    """What an auditor of this world has seen before."""

    @classmethod
    def create(cls, home: Path, data: Path) -> Self:
        """Make chain, registrations, profile and store, over prepared data."""
        home.mkdir(parents=True)
        parameters = ChainParameters()
        owner, validator = key("owner"), key("validator")
        create(
            home / "chain.sqlite", seed=CHAIN_SEED, owner_hotkey=owner.key_id, owner_coldkey=key("owner cold").key_id, parameters=parameters
        )
        genesis = GENESIS
        chain = LocalChain.connect(home / "chain.sqlite")
        pools = open_pools(data)
        rules = devnet_rules(
            genesis_tree=genesis.digest(),
            manifest=pools.data.manifest.digest(),
            vocabulary=pools.data.vocabulary,
            hidden=pools.newest.commitment.digest(),
            sources=(),
        )
        rules = rules.model_copy(update={"hidden": HIDDEN})
        profile = NetworkProfile(name="devnet", chain=run(chain.block_hash(0)), netuid=1, rules=rules)
        run(chain.register(validator.key_id, key("validator cold").key_id, stake=1_000))
        for name in MINERS:
            run(chain.register(key(name).key_id, key(f"{name} cold").key_id))
        run(chain.close())
        world = cls(home=home, profile=profile, pools=pools, throne=Throne.genesis(genesis.digest()))
        store_tree(world.store, genesis)
        pools.publish(world.store)
        record_key = world.record_key
        message = KeyEndorsement.message(validator.key_id, record_key.public_key)
        endorsement = KeyEndorsement(hotkey=validator.key_id, record_key=record_key.public_key, signature=validator.sign(message))
        world.store.put_named(endorsement_name(validator.key_id), endorsement.to_bytes())
        return world

    def copy(self, home: Path) -> "World":
        """Return an independent world that goes on from here."""
        shutil.copytree(self.home, home)
        return World(
            home=home,
            profile=self.profile,
            pools=self.pools,
            throne=self.throne,
            entries=list(self.entries),
            records=list(self.records),
            anchors=list(self.anchors),
            drawn=list(self.drawn),
            trees=dict(self.trees),
            gains=dict(self.gains),
            broken=set(self.broken),
            reproduced=set(self.reproduced),
        )

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.home / "store")

    @property
    def validator(self) -> str:
        return key("validator").key_id

    @property
    def record_key(self) -> RecordKey:
        return RecordKey(digest("test/record-key", 1))

    def audit(self, **options: Any) -> Report:
        """Audit this world as a stranger would."""

        async def main() -> Report:
            chain = LocalChain.connect(self.home / "chain.sqlite")
            try:
                return await audit(chain=chain, store=self.store, profile=self.profile, reproduced=self.reproduced, **options)
            finally:
                await chain.close()

        return run(main())

    def play(self, forgery: Forgery = HONEST, *, announce: Sequence[str] = (), withhold: Sequence[str] = ()) -> SignedRecord:
        """Make one round."""
        return self.publish(self.draft(forgery, announce=announce, withhold=withhold), forgery)

    def draft(self, forgery: Forgery = HONEST, *, announce: Sequence[str] = (), withhold: Sequence[str] = ()) -> Record:
        """Make one round up to its Record."""
        blocks = window(self.profile.rules.rounds, len(self.records))
        self._until(blocks.start)
        contests = {one.hotkey: one for one in self.throne.contests}
        for name in announce:
            self._commit(key(name), self._slot(name, None))
        first = self._beacon("B1", blocks.beacon_one)
        for name in (*announce, *(one for one in MINERS if key(one).key_id in contests)):
            if name not in withhold:
                self._deliver(name, contests.get(key(name).key_id), first)
        second = self._beacon("B2", blocks.beacon_two)
        cases = forgery.cases(self._intake(blocks, first, second))
        previous = self.drawn[-1][1].beacon if self.drawn else None
        beacons = Beacons(one=first.beacon, two=second.beacon, previous_two=previous)
        wanted = needs(self.throne, cases, beacons, self.profile.rules, round_index=blocks.index)
        hidden = self._hidden(blocks.index, second.beacon)
        measured = [self._measure(need, hidden) for need in wanted]
        while len(more := follow_ups(self.throne, measured, self.profile.rules)) > len(measured) - len(wanted):
            measured = [*measured[: len(wanted)], *(self._measure(need, hidden) for need in more)]
        measurements = forgery.measurements(tuple(measured))
        signed = self._sign_all(measurements)
        if forgery.commits:
            self._anchor(record=None, measurements=set_digest(signed))
        self._until(blocks.measure_end + 2)
        signed = self._sign_all(forgery.opened(measurements))
        record = self._decide(blocks, forgery, forgery.beacons((first, second)), cases, signed, hidden)
        self.drawn.append((first, second))
        return record

    def publish(self, record: Record, forgery: Forgery = HONEST) -> SignedRecord:
        """Sign, store and anchor a Record, then set the weights that follow from the state."""
        signed = SignedRecord(record=record, signature=self.record_key.sign(record.digest()))
        self.records.append(signed)
        locator = self.store.put(signed.to_bytes())
        self.anchors.append(self._anchor(record=locator, measurements=None, forge=forgery.anchor))
        anchor = Anchor.from_bytes(self.store.get(self.anchors[-1], limit=MAX_ANCHOR_BYTES), limit=MAX_ANCHOR_BYTES)
        entry = Entry(anchor=anchor, anchor_digest=self.anchors[-1], signed=signed, locator=locator, throne=self.throne)
        self.entries.append(entry)
        if forgery.pays:
            self._pay(forgery)
        return signed

    def sign(self, measurement: Measurement) -> SignedMeasurement:
        return SignedMeasurement(measurement=measurement, signature=self.record_key.sign(measurement.digest()))

    def set_slot(self, payload: bytes) -> None:
        """Write anything into the validator's slot."""
        self._commit(key("validator"), payload)
        self.produce(3)

    def produce(self, count: int) -> None:
        with BlockProducer(self.home / "chain.sqlite", seed=CHAIN_SEED) as producer:
            producer.produce(count)

    def head(self) -> int:
        return self._ask(lambda chain: chain.head()).number

    def _ask(self, question: Callable[[LocalChain], Coroutine[Any, Any, Answer]], signer: Hotkey | None = None) -> Answer:
        async def main() -> Answer:
            chain = LocalChain.connect(self.home / "chain.sqlite", keypair=signer)
            try:
                return await question(chain)
            finally:
                await chain.close()

        return run(main())

    def _until(self, block: int) -> None:
        missing = block - self.head()
        if missing > 0:
            self.produce(missing)

    def _commit(self, signer: Hotkey, payload: bytes) -> None:
        self._ask(lambda chain: chain.commit(payload), signer)
        self.produce(1)

    def _beacon(self, name: str, block: int) -> BeaconRow:
        self._until(block + 2)
        return self._ask(lambda chain: read_beacon(chain, name, block))

    def _announcement(self, name: str) -> Announcement:
        return Announcement(
            tree=self.trees[name].digest(),
            parent=self.throne.king.tree,
            hotkey=key(name).key_id,
            track=self.profile.rules.track,
            hypothesis=HYPOTHESIS.digest(),
            environment=ENVIRONMENT.digest(),
            salt=digest("test/salt", name),
        )

    def _slot(self, name: str, bundle: bytes | None) -> bytes:
        announcement = self._announcement(name)
        return Slot(track=1, parent=announcement.parent[:8], announcement=announcement.digest(), bundle=bundle or bytes(32)).to_bytes()

    def _deliver(self, name: str, contest: Contest | None, first: BeaconRow) -> None:
        rules, announcement = self.profile.rules, self._announcement(name)
        index = len(self.records)
        if contest is None:
            drawn = seeds(rules, beacon=first.beacon, round_index=index, purpose="screen", count=rules.crown.screen_runs)
            nonce_beacon = first.beacon
        elif contest.stage == "filter":
            drawn = filter_seeds(contest, rules, previous_two=self.drawn[-1][1].beacon, round_index=index)
            nonce_beacon = self.drawn[contest.opened_round][0].beacon
        else:
            return
        files = self._files(self.trees[name], announcement, drawn)
        for data in files.values():
            self.store.put(data)
        bundle = self.store.put(manifest_of(files).to_bytes())
        made = nonce(beacon_one=nonce_beacon, announcement=announcement.digest(), hotkey=key(name).key_id)
        message = Submission.message(announcement=announcement.digest(), nonce=made, bundle=bundle)
        submission = Submission(
            hotkey=key(name).key_id, announcement=announcement.digest(), nonce=made, bundle=bundle, signature=key(name).sign(message)
        )
        self.store.put_named(submission_name(key(name).key_id, bundle), submission.to_bytes())
        self._commit(key(name), self._slot(name, bundle))

    def _files(self, tree: RecipeTree, announcement: Announcement, drawn: Sequence[int]) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as scratch:
            patch = diff(Path(scratch), self._king(), tree)
        files = {
            "announcement.cbor": announcement.to_bytes(),
            "environment.cbor": ENVIRONMENT.to_bytes(),
            "hypothesis.cbor": HYPOTHESIS.to_bytes(),
            "licence": LICENCE,
            "patch.diff": patch,
        }
        for one in drawn:
            prefix = run_prefix("C1", one)
            claim, transcript, made = self._run(tree, one)
            files |= {prefix + "run.cbor": claim.to_bytes(), prefix + "transcript": transcript, prefix + "weights.safetensors": made}
        return files

    def _king(self) -> RecipeTree:
        king = self.throne.king.tree
        return next((tree for tree in self.trees.values() if tree.digest() == king), GENESIS)

    def _run(self, tree: RecipeTree, seed: int) -> tuple[RunClaim, bytes, bytes]:
        """Invent a run that keeps to the plan of its tree."""
        with tempfile.TemporaryDirectory() as folder:
            materialise(tree, Path(folder) / "recipe")
            made = plan(Path(folder) / "recipe", self.profile.rules.rung("C1"))
        state, number = digest("test/state", [tree.digest(), seed]), bytes(8)
        writer = TranscriptWriter(seed=seed, plan=made, start_step=0, start_state=state)
        boundaries = [state]
        for step in range(1, made.steps + 1):
            boundary = digest("test/state", [state, step]) if step in made.boundaries else None
            boundaries += [boundary] if boundary else []
            writer.append(step=step, loss=number, gradient_norm=number, boundary=boundary)
        weights_file = dump([wire.Tensor(name="w", dtype="f32", shape=(8,), data=memoryview(state))])
        claim = RunClaim(
            rung="C1",
            seed=seed,
            steps=made.steps,
            batch_rows=made.batch_rows,
            sequence=made.sequence,
            tokens=made.tokens,
            parameters=8,
            transcript_root=writer.root,
            segments_root=segments.root(made.boundaries, tuple(boundaries)),
            weights=blob_digest(weights_file),
            final_loss_nats=1.0,
        )
        return claim, writer.to_bytes(), weights_file

    def _intake(self, blocks: Window, first: BeaconRow, second: BeaconRow) -> tuple[CaseRow, ...]:
        rules, index = self.profile.rules, blocks.index
        slots = self._ask(lambda chain: chain.commitments(blocks.announce_end)) if index else {}
        metagraph = self._ask(lambda chain: chain.snapshot(blocks.announce_end))
        present = entrants(slots, metagraph, self.throne, rules)
        docket = Docket(
            round_index=index,
            throne=self.throne,
            king=self._king(),
            entrants=present,
            bundles=self._ask(lambda chain: chain.commitments(blocks.submit_end)),
            beacons_one={index: first.beacon, **{number: pair[0].beacon for number, pair in enumerate(self.drawn)}},
            screen_seeds=seeds(rules, beacon=first.beacon, round_index=index, purpose="screen", count=rules.crown.screen_runs),
            filter_seeds=lambda contest: filter_seeds(contest, rules, previous_two=self.drawn[-1][1].beacon, round_index=index),
        )
        with tempfile.TemporaryDirectory() as scratch:
            intake = Intake(store=self.store, rules=rules, scratch=Path(scratch), docket=docket)
            rows = []
            by_case = {one.case: one for one in present}
            bare = {case: CaseOrder(case) for case in by_case}
            for order in queue_order(tuple(bare.values()), second.beacon):  # type: ignore[arg-type]
                row = intake.row(by_case[order.case])
                intake.remember(row)
                rows.append(row)
        return tuple(rows)

    @property
    def losses(self) -> DocumentLosses:
        return DocumentLosses(private=DirectoryStore(self.home / "private"))

    def past_beacon(self, name: str, index: int) -> bytes:
        """Return a beacon of an earlier round, as a validator's archive does."""
        return self.drawn[index][0 if name == "B1" else 1].beacon

    def _hidden(self, index: int, beacon_two: bytes) -> HiddenRound:
        return HiddenRound(
            self.pools,
            self.profile.rules,
            hotkey=self.validator,
            entries=self.entries,
            archive=self,  # type: ignore[arg-type]
            index=index,
            beacon_two=beacon_two,
        )

    def _openings(self, hidden: HiddenRound, forgery: Forgery) -> tuple[OpeningRow, ...]:
        records = [one.record for one in self.records]
        rows = Openings(rules=self.profile.rules, store=self.store, losses=self.losses, hidden=hidden, records=records).publish()
        return tuple(self.reopened(row, forgery) for row in rows)

    def reopened(self, row: OpeningRow, forgery: Forgery) -> OpeningRow:
        """Return an opening as somebody forges it."""
        documents = OpenedSubset.from_bytes(self.store.get(row.documents, limit=MAX_OPENINGS_BYTES), limit=MAX_OPENINGS_BYTES)
        scores = ExactScores.from_bytes(self.store.get(row.scores, limit=MAX_EXACT_BYTES), limit=MAX_EXACT_BYTES)
        forged, rescored = forgery.opens(documents), forgery.scores(scores)
        return row.model_copy(update={"documents": self.store.put(forged.to_bytes()), "scores": self.store.put(rescored.to_bytes())})

    def _measure(self, need: Need, hidden: HiddenRound) -> Measurement:
        noise = int.from_bytes(digest("test/noise", need.seed)[:4], "little") / 2**32
        own = int.from_bytes(digest("test/noise", [need.seed, need.tree])[:4], "little") / 2**32
        harder = int.from_bytes(digest("test/subset", need.subset.key)[:4], "little") / 2**32
        value = 2.5 + harder + 0.01 * noise + 0.001 * own - self.gains.get(need.tree, 0.0)
        rows = hidden.rows(need.subset)
        tree = next((one for one in self.trees.values() if one.digest() == need.tree), GENESIS)
        claim, _, _ = self._run(tree, need.seed)
        if need.tree not in self.broken:
            self.losses.keep(need, need.weights or claim.weights, LN2 * value * rows.byte_counts)
        return Measurement(
            round=len(self.records),
            executor=self.validator,
            role=need.role,
            stage=need.stage,
            tree=need.tree,
            rung="C1",
            seed=need.seed,
            executed=need.executed,
            subset=need.subset,
            environment=ENVIRONMENT.digest(),
            transcript_root=claim.transcript_root if need.executed else None,
            segments_root=claim.segments_root if need.executed else None,
            weights=need.weights or claim.weights,
            parameters=claim.parameters if need.executed else 0,
            tokens=claim.tokens if need.executed else 0,
            score=None if need.tree in self.broken else score(value, rows),
            failure=Failure(reason="RUN-CRASH", detail="a bomb") if need.tree in self.broken else None,
        )

    def _sign_all(self, measurements: Sequence[Measurement]) -> tuple[SignedMeasurement, ...]:
        return tuple(self.sign(one) for one in measurements)

    def _decide(
        self,
        blocks: Window,
        forgery: Forgery,
        beacons: tuple[BeaconRow, ...],
        cases: tuple[CaseRow, ...],
        signed: tuple[SignedMeasurement, ...],
        hidden: HiddenRound,
    ) -> Record:
        rules = self.profile.rules
        decision = decide(
            self.throne,
            round_index=blocks.index,
            beacon_two=next(row.beacon for row in beacons if row.name == "B2"),
            cases=cases,
            measurements=tuple(item.measurement for item in signed),
            sealed=hidden.sealed(),
            rules=rules,
        )
        record = Record(
            round=blocks.index,
            track=rules.track,
            chain=self.profile.chain,
            rules=rules.digest(),
            validator=self.validator,
            previous=self.records[-1].record.digest() if self.records else None,
            beacons=beacons,
            king=self.throne.king.tree,
            environments=(ENVIRONMENT,),
            cases=cases,
            measurements=signed,
            outcomes=decision.outcomes,
            crown=decision.crown,
            hidden=hidden.commitment,
            watch=decision.watch,
            openings=self._openings(hidden, forgery),
            demotion=decision.demotion,
        )
        self.throne = decision.throne
        if decision.crown is not None:
            store_tree(self.store, next(tree for tree in self.trees.values() if tree.digest() == decision.crown.tree))
        return forgery.record(record)

    def _anchor(self, *, record: bytes | None, measurements: bytes | None, forge: Callable[[Anchor], Anchor] = same) -> bytes:
        log = MerkleLog()
        for one in self.records:
            log.append(one.record.to_bytes())
        last = self.records[-1].to_bytes() if self.records else None
        anchor = Anchor(
            round=log.size - 1 if measurements is None else log.size,
            size=log.size,
            root=log.root() if log.size else EMPTY_ROOT,
            record=record or (blob_digest(last) if last is not None else None),
            measurements=measurements,
            hidden=self.pools.newest.commitment.digest(),
            previous=self.anchors[-1] if self.anchors else None,
        )
        made = self.store.put(forge(anchor).to_bytes())
        self.set_slot(anchor_payload(made))
        return made

    def _pay(self, forgery: Forgery) -> None:
        head = self.head()
        metagraph = self._ask(lambda chain: chain.snapshot(head))
        owner = self._ask(lambda chain: chain.owner_hotkey())
        vector = dict(weights(self.throne, self.profile.rules, owner=owner, registered=frozenset(metagraph.by_hotkey())))
        try:
            self._ask(lambda chain: chain.set_weights(forgery.weights(vector), version_key=1), key("validator"))
        except ChainRejected as error:
            if error.retry_after_blocks is None:
                raise
        self.produce(3)


@dataclass(frozen=True)
class CaseOrder:
    """What the order of the queue depends on."""

    case: bytes


def score(value: float, rows: Rows) -> Score:
    """Return a score that contradicts nothing: every document costs the same bits per byte."""
    value = round(value, 5)
    sources = tuple(SourceValue(source=name, val_bpb=value, documents=rows.sources.count(name)) for name in sorted(set(rows.sources)))
    return made.score(value, documents=len(rows), sources=sources)


def moved(one: Score, gain: float) -> Score:
    """Return a score that is better by this much and contradicts nothing either."""
    value = round(one.val_bpb - gain, 5)
    sources = tuple(part.model_copy(update={"val_bpb": value}) for part in one.sources)
    return one.model_copy(update={"val_bpb": value, "claimed_bpb": value, "sources": sources})


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run to the end."""
    return asyncio.run(work)


def edited(tree: RecipeTree, name: str, before: str, after: str) -> RecipeTree:
    """Return ``tree`` with one replacement in one file."""
    text = tree.files[name].decode()
    assert before in text
    files: Mapping[str, bytes] = {**tree.files, name: text.replace(before, after, 1).encode()}
    return RecipeTree(files=files)
