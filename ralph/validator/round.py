"""One round, from announcements to signed Measurements. Every step asks the event table first.

1. Slots in the state of A: who announced.     2. Beacon B1.
3. Slots in the state of S: who submitted.     4. Beacon B2.
5. Intake and gates, in B2's queue order.      6. The runs that the decision needs, king beside challengers.
"""

import asyncio
import logging
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ralph.errors import RalphError, UntrustedInputError
from ralph.gates.announced import Entrant
from ralph.judge.canary import doubtful
from ralph.judge.decide import Sealed
from ralph.judge.plan import Beacons, Need, filter_seeds, needs, seeds
from ralph.judge.rotation import stage_subset
from ralph.protocol.announcement import Environment, Slot
from ralph.protocol.bundle import MAX_MANIFEST_BYTES, Manifest, run_prefix
from ralph.protocol.canonical import decode, encode
from ralph.protocol.lineage import Contest, Throne
from ralph.protocol.measurement import Measurement, SignedMeasurement
from ralph.protocol.patch import RecipeTree
from ralph.protocol.pool import Subset
from ralph.protocol.reasons import Reason
from ralph.protocol.record import BeaconRow, CaseRow, OpeningRow, Refusal
from ralph.protocol.rounds import Window, rotation_of
from ralph.protocol.seeds import draw
from ralph.records.history import Entry
from ralph.repository.stored import load_tree
from ralph.validator.answers import Answers
from ralph.validator.doubt import settle
from ralph.validator.facts import Archive
from ralph.validator.guarding import DocumentLosses, Guarding
from ralph.validator.hidden import HiddenRound
from ralph.validator.intake import Docket, Intake, unopened
from ralph.validator.measure import Bench, Measured, Work, king_run, retried, seed_decides, share_over_tau
from ralph.validator.opening import Openings
from ralph.validator.services import Services
from ralph.validator.times import Costs, Times

logger = logging.getLogger(__name__)

MAX_EVENT_BYTES = 1 << 20
MAX_MEASUREMENT_BYTES = 1 << 16
MAX_PRIVATE_BYTES = 1 << 28
MAX_CLAIMS_BYTES = 1 << 30
KING_CLAIMS = "king-cells"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Everything that the decision of a round needs."""

    beacon_one: BeaconRow
    beacon_two: BeaconRow
    cases: tuple[CaseRow, ...]
    measurements: tuple[SignedMeasurement, ...]
    hidden: bytes
    """Digest of the PoolCommitment that the documents were drawn from."""
    sealed: Sealed
    openings: tuple[OpeningRow, ...]


class RoundWork:
    """Gather the inputs of one round's decision.

    Args:
        services: Of this validator.
        entries: Every published Record so far, oldest first.
        throne: The state after them.
        window: The round's blocks.
    """

    def __init__(self, services: Services, entries: Sequence[Entry], throne: Throne, window: Window) -> None:
        self._services, self._entries, self._throne, self._window = services, entries, throne, window
        self._rules = services.profile.rules
        rung = self._rules.rung(self._rules.crown.rung)
        self._times = Times(services.events, rung=rung, king=throne.king.tree, round_index=window.index)
        self._costs = Costs(services.events, king=throne.king.tree, ratio=self._rules.evaluation.max_cost_ratio)
        self._losses = DocumentLosses(private=services.private)
        self._answers = Answers(events=services.events, private=services.private)
        self._archive = Archive(chain=services.chain, events=services.events, rules=self._rules)

    async def gather(self) -> Gathered:
        """Run the round's phases up to its last Measurement."""
        window = self._window
        entrants = await self._archive.announced(window, self._throne)
        beacon_one = await self._archive.beacon("B1", window)
        bundles = await self._archive.submitted(window)
        beacon_two = await self._archive.beacon("B2", window)
        one, two = beacon_one.beacon, beacon_two.beacon
        king = await asyncio.to_thread(self._king)
        cases = await asyncio.to_thread(self._intake, entrants, bundles, king, one, two)
        hidden = await asyncio.to_thread(self._hidden, two)
        self._guarding = await asyncio.to_thread(self._guards_on, hidden)
        measurements = await asyncio.to_thread(self._measure, cases, king, hidden, one, two)
        openings = await asyncio.to_thread(self._open, hidden)
        hidden.check_supply(window.index)
        return Gathered(
            beacon_one=beacon_one,
            beacon_two=beacon_two,
            cases=cases,
            measurements=measurements,
            hidden=hidden.commitment,
            sealed=hidden.sealed(),
            openings=openings,
        )

    def _hidden(self, beacon_two: bytes) -> HiddenRound:
        return HiddenRound(
            self._services.pools,
            self._rules,
            hotkey=self._services.hotkey.key_id,
            entries=self._entries,
            archive=self._archive,
            index=self._window.index,
            beacon_two=beacon_two,
        )

    def _guards_on(self, hidden: HiddenRound) -> Guarding:
        subset = stage_subset("proof", rotation_of(self._rules.hidden, self._window.index))
        return Guarding(
            rules=self._rules,
            losses=self._losses,
            answers=self._answers,
            hidden=hidden.rows(subset),
            subset=subset,
            throne=self._throne,
        )

    def _open(self, hidden: HiddenRound) -> tuple[OpeningRow, ...]:
        records = [entry.signed.record for entry in self._entries]
        return Openings(rules=self._rules, store=self._services.store, losses=self._losses, hidden=hidden, records=records).publish()

    def _king(self) -> RecipeTree:
        return self._tree(self._throne.king.tree)

    def _tree(self, tree: bytes) -> RecipeTree:
        if tree == self._services.genesis.digest():
            return self._services.genesis
        return load_tree(self._services.store, tree, max_file_bytes=self._rules.patch.max_file_bytes)

    def _intake(
        self, entrants: Sequence[Entrant], bundles: dict[str, bytes], king: RecipeTree, beacon_one: bytes, beacon_two: bytes
    ) -> tuple[CaseRow, ...]:
        window, rules = self._window, self._rules
        docket = Docket(
            round_index=window.index,
            throne=self._throne,
            king=king,
            entrants=tuple(entrants),
            bundles=bundles,
            beacons_one={
                window.index: beacon_one,
                **{one.opened_round: self._archive.past_beacon("B1", one.opened_round) for one in self._throne.contests},
            },
            screen_seeds=seeds(rules, beacon=beacon_one, round_index=window.index, purpose="screen", count=rules.crown.screen_runs),
            filter_seeds=self._filter_seeds,
        )
        intake = Intake(store=self._services.store, rules=rules, scratch=self._services.scratch, docket=docket)
        queue = sorted(entrants, key=lambda one: draw(beacon=beacon_two, purpose="queue", subject=one.case))
        rows = []
        for entrant in (*queue, *_vanished(self._throne, entrants)):
            key = f"{window.index}/{entrant.case.hex()}"
            payload = self._services.events.get("case", key)
            if payload is None:
                payload = self._one_case(intake, entrant).to_bytes()
                self._services.events.append("case", key, payload)
            row = CaseRow.from_bytes(payload, limit=MAX_EVENT_BYTES)
            intake.remember(row)
            rows.append(row)
        return tuple(rows)

    def _one_case(self, intake: Intake, entrant: Entrant) -> CaseRow:
        """Judge one case. The only broad except of the tree: a bug met by one miner's case must not stop the round."""
        try:
            return intake.row(entrant)
        except RalphError:
            raise
        except Exception:  # the traceback is kept and the case is set aside on our account
            logger.exception("case %s hit a bug and is set aside", entrant.case.hex()[:16])
            last = traceback.format_exc().strip().splitlines()[-1][:200]
            return unopened(entrant, self._throne, Refusal(gate="intake", reason=Reason.OPS_INFRA.value, detail=f"set aside: {last}"))

    def _filter_seeds(self, contest: Contest) -> tuple[int, ...]:
        previous = self._archive.past_beacon("B2", self._window.index - 1)
        return filter_seeds(contest, self._rules, previous_two=previous, round_index=self._window.index)

    def _measure(
        self, cases: tuple[CaseRow, ...], king: RecipeTree, hidden: HiddenRound, beacon_one: bytes, beacon_two: bytes
    ) -> tuple[SignedMeasurement, ...]:
        index = self._window.index
        previous = self._archive.past_beacon("B2", index - 1) if index > 0 else None
        beacons = Beacons(one=beacon_one, two=beacon_two, previous_two=previous)
        wanted = needs(self._throne, cases, beacons, self._rules, round_index=index)
        kings = [need for need in wanted if need.role == "king"]
        extra = self._kings(kings, cases, king, hidden, beacon_two)
        self._run([need for need in wanted if need.role != "king"], cases, king, hidden, beacon_two, king_ran=bool(kings))
        return tuple(self._finished(need) for need in (*wanted, *extra))

    def _kings(
        self, kings: Sequence[Need], cases: Sequence[CaseRow], king: RecipeTree, hidden: HiddenRound, beacon_two: bytes
    ) -> tuple[Need, ...]:
        """Run the king; return what his doubtful runs call for beyond that. They are written down when it is clear whose fault it is."""
        held: dict[Need, Measured] = {}

        def keep(need: Need) -> None:
            measured = held.pop(need)
            self._keep(need, measured, self._guarded(need, measured, kings, beacon_two))

        def measure(needed: Sequence[Need]) -> list[Measurement]:
            for need, measured in self._measured_kings(self._missing(needed), cases, king, hidden, beacon_two):
                held[need] = measured
                if need in kings and not doubtful(measured.measurement, self._throne.pool):
                    keep(need)
            return [held[need].measurement if need in held else self._finished(need).measurement for need in needed]

        extra = settle(self._throne, measure(kings), self._rules, measure=measure)
        for need in sorted(held, key=lambda need: need in kings):
            keep(need)
        return extra

    def _measured_kings(
        self, missing: Sequence[Need], cases: Sequence[CaseRow], king: RecipeTree, hidden: HiddenRound, beacon_two: bytes
    ) -> Iterator[tuple[Need, Measured]]:
        """Yield runs of the king and of the reference as they end."""
        if missing:
            bench, tries, reference = self._bench(missing, hidden, beacon_two), self._rules.defer_limit, self._services.genesis
            work = [self._work(need, cases, king) for need in missing]
            found = self._services.executor.map(lambda one: king_run(bench, one, tries, reference=reference), work)
            yield from zip(missing, found, strict=True)

    def _missing(self, wanted: Sequence[Need]) -> list[Need]:
        return [need for need in wanted if self._services.events.get("measurement", self._key(need)) is None]

    def _bench(self, missing: Sequence[Need], hidden: HiddenRound, beacon_two: bytes) -> Bench:
        subsets = {need.subset for need in missing}
        return Bench(
            rules=self._rules,
            sandbox=self._services.sandbox,
            data=self._services.data,
            hidden={subset: hidden.rows(subset) for subset in subsets},
            environment=self._environment(),
            executor=self._services.hotkey.key_id,
            round_index=self._window.index,
            beacon_two=beacon_two,
            king_losses={subset: losses for subset in subsets if (losses := self._king_losses(subset)) is not None},
            scratch=self._services.scratch,
            genesis=self._services.genesis,
            king_share=share_over_tau((entry.signed.record for entry in self._entries), self._throne.king.tree),
            examinations=self._services.examinations,
            king_answers=self._answers.king(self._throne.king.tree, [one.name for one in self._services.examinations]),
        )

    def _run(
        self,
        wanted: Sequence[Need],
        cases: Sequence[CaseRow],
        king: RecipeTree,
        hidden: HiddenRound,
        beacon_two: bytes,
        *,
        king_ran: bool,
    ) -> None:
        missing = self._missing(wanted)
        if not missing:
            return
        bench = self._bench(missing, hidden, beacon_two)
        work = [self._work(need, cases, king) for need in missing]
        tries = self._rules.defer_limit
        found = self._services.executor.map(lambda one: retried(bench, one, tries, king_ran=king_ran), work)
        for need, measured in zip(missing, found, strict=True):
            guarded = self._guarded(need, measured, wanted, beacon_two)
            self._keep(need, measured, guarded)

    def _environment(self) -> Environment:
        """Return the pins of our stack, kept for the Record."""
        environment = self._services.environment()
        key = environment.digest().hex()
        if self._services.events.get("environment", key) is None:
            self._services.events.append("environment", key, environment.to_bytes())
        return environment

    def _guarded(self, need: Need, measured: Measured, wanted: Sequence[Need], beacon_two: bytes) -> dict[str, object]:
        """Keep what a run lost on every document; return the fields of its Measurement that follow from it and the runs before."""
        if measured.document_nats is None:
            return {}
        self._losses.keep(need, measured.measurement.weights, measured.document_nats)
        self._answers.keep(need, measured.examined)
        guards = self._guarding.rows(need, wanted, beacon_two=beacon_two)
        return {"guards": guards, "document_error": self._guarding.document_error(need, wanted)}

    def _keep(self, need: Need, measured: Measured, guarded: dict[str, object]) -> None:
        private, key = self._services.private, _claims_key(need.tree, need.subset)
        wanted = need.tree == self._throne.king.tree and _is_compared(need.subset)
        if wanted and measured.claims is not None and self._services.events.get(KING_CLAIMS, key) is None:
            digest = private.put(np.ascontiguousarray(measured.claims, "<f8").view(np.uint8).data)
            self._services.events.append(KING_CLAIMS, key, digest)
        if measured.weights is not None and need.stage not in ("screen", "rescore") and need.role != "reference":
            private.put(measured.weights)
        judged = self._times.judged(need, self._judged_start(need, measured), measured.training_s)
        judged = self._costs.judged(need, judged, measured.scoring_cpu_s)
        measurement = judged.model_copy(update=guarded) if judged.failure is None else judged
        signed = SignedMeasurement(measurement=measurement, signature=self._services.record_key.sign(measurement.digest()))
        self._services.events.append("measurement", self._key(need), signed.to_bytes())
        value = (
            f"{measurement.score.val_bpb:.4f} bpb"
            if measurement.score
            else measurement.failure.reason
            if measurement.failure
            else "nothing"
        )
        logger.info("round %d: measured %s: %s", self._window.index, need.key, value)

    def _judged_start(self, need: Need, measured: Measured) -> Measurement:
        """Compare a challenger's step-0 state with that of its first run: the seed must decide it (RUN-INIT)."""
        if need.role != "challenger" or measured.initial is None:
            return measured.measurement
        key, private = need.tree.hex(), self._services.private
        payload = self._services.events.get("initial", key)
        if payload is None:
            payload = encode([need.seed, private.put(measured.initial.data)])
            self._services.events.append("initial", key, payload)
        seed, digest = decode(payload, limit=MAX_EVENT_BYTES)
        if seed == need.seed:
            return measured.measurement
        rung = self._rules.rung(self._rules.crown.rung)
        failure = seed_decides(private.get(digest, limit=MAX_PRIVATE_BYTES), measured.initial.data, rung)
        return measured.measurement if failure is None else measured.measurement.model_copy(update={"score": None, "failure": failure})

    def _king_losses(self, subset: Subset) -> NDArray[np.float64] | None:
        """Return the claims of one run of the king, which the weighted probes compare with; None before his first on these documents."""
        digest = self._services.events.get(KING_CLAIMS, _claims_key(self._throne.king.tree, subset))
        if digest is None:
            return None
        return np.frombuffer(self._services.private.map(digest, limit=MAX_CLAIMS_BYTES), "<f8")

    def _work(self, need: Need, cases: Sequence[CaseRow], king: RecipeTree) -> Work:
        if need.weights is not None:
            weights = self._services.private.get(need.weights, limit=MAX_PRIVATE_BYTES)
            return Work(need=need, tree=self._tree(need.tree), weights=weights)
        if need.role == "king":
            return Work(need=need, tree=king, weights=None)
        tree = load_tree(self._services.store, need.tree, max_file_bytes=self._rules.patch.max_file_bytes)
        if need.executed:
            return Work(need=need, tree=tree, weights=None)
        case = next(case for case in cases if case.tree == need.tree and case.refusal is None)
        if case.bundle is None:
            raise UntrustedInputError("INT-ABSENT", "a filter case without a bundle")
        manifest = Manifest.from_bytes(self._services.store.get(case.bundle, limit=MAX_MANIFEST_BYTES), limit=MAX_MANIFEST_BYTES)
        entry = manifest.entry(run_prefix(self._rules.crown.rung, need.seed) + "weights.safetensors")
        return Work(need=need, tree=tree, weights=self._services.store.get(entry.sha256, limit=entry.size))

    def _finished(self, need: Need) -> SignedMeasurement:
        payload = self._services.events.get("measurement", self._key(need))
        if payload is None:
            raise ValueError(f"measurement {need.key} was not kept")
        return SignedMeasurement.from_bytes(payload, limit=MAX_MEASUREMENT_BYTES)

    def _key(self, need: Need) -> str:
        return f"{self._window.index}/{need.key}"


def _claims_key(tree: bytes, subset: Subset) -> str:
    return f"{tree.hex()}/{subset.key}"


def _is_compared(subset: Subset) -> bool:
    """Return whether challengers are scored on these documents too."""
    return subset.shard != "audit" and subset.crown is None


def _vanished(throne: Throne, entrants: Sequence[Entrant]) -> tuple[Entrant, ...]:
    """Return entrants for contests whose slot is gone or was overwritten: absent in filter, irrelevant in proof."""
    present = {entrant.case for entrant in entrants}
    return tuple(
        Entrant(
            hotkey=one.hotkey,
            coldkey=one.coldkey,
            registered_at=0,
            slot=Slot(track=0, parent=throne.king.tree[:8], announcement=one.announcement),
        )
        for one in throne.contests
        if one.case not in present
    )
