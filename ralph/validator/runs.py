"""The runs of one round: what the decision needs is measured, judged where only this validator can, and kept as signed Measurements.

King first, then challengers; every step asks the event table before it works, so that a killed validator goes on where it was.
"""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ralph.errors import UntrustedInputError
from ralph.judge.canary import doubtful
from ralph.judge.plan import Beacons, Need, needs
from ralph.judge.rotation import stage_subset
from ralph.protocol.announcement import Environment
from ralph.protocol.bundle import MAX_MANIFEST_BYTES, Manifest, run_prefix
from ralph.protocol.canonical import decode, encode
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import Measurement, SignedMeasurement
from ralph.protocol.patch import RecipeTree
from ralph.protocol.pool import Subset
from ralph.protocol.record import CaseRow, Record
from ralph.protocol.rounds import rotation_of
from ralph.repository.stored import load_tree
from ralph.validator.answers import Answers
from ralph.validator.attempts import king_run, retried, seed_decides
from ralph.validator.doubt import settle
from ralph.validator.guarding import DocumentLosses, Guarding
from ralph.validator.hidden import HiddenRound
from ralph.validator.measure import Bench, Measured, Work, share_over_tau
from ralph.validator.services import Services
from ralph.validator.times import Costs, Times

logger = logging.getLogger(__name__)

MAX_EVENT_BYTES = 1 << 20
MAX_MEASUREMENT_BYTES = 1 << 16
MAX_PRIVATE_BYTES = 1 << 28
MAX_CLAIMS_BYTES = 1 << 30
KING_CLAIMS = "king-cells"


def tree_of(services: Services, tree: bytes) -> RecipeTree:
    """Return the recipe tree with this digest: genesis, or one that the store holds."""
    if tree == services.genesis.digest():
        return services.genesis
    return load_tree(services.store, tree, max_file_bytes=services.profile.rules.patch.max_file_bytes)


class Runs:
    """Measures a round.

    Args:
        services: Of this validator.
        records: Every published Record so far, oldest first.
        throne: The state after them.
        round_index: The round.
        cases: Of the round, judged by the gates.
        king: His tree.
        hidden: The round's documents.
        beacons: The round's.

    Raises:
        ConfigurationError: OPS-DATA, too few documents of a guarded source.
    """

    def __init__(
        self,
        services: Services,
        *,
        records: Sequence[Record],
        throne: Throne,
        round_index: int,
        cases: Sequence[CaseRow],
        king: RecipeTree,
        hidden: HiddenRound,
        beacons: Beacons,
    ) -> None:
        self._services, self._records, self._throne, self._index = services, records, throne, round_index
        self._cases, self._king, self._hidden, self._beacons = cases, king, hidden, beacons
        self._rules, events = services.profile.rules, services.events
        self._times = Times(events, rung=self._rules.rung(self._rules.crown.rung), king=throne.king.tree, round_index=round_index)
        self._costs = Costs(events, king=throne.king.tree, ratio=self._rules.evaluation.max_cost_ratio)
        self._losses = DocumentLosses(private=services.private)
        self._answers = Answers(events=events, private=services.private)
        subset = stage_subset("proof", rotation_of(self._rules.hidden, round_index))
        self._guarding = Guarding(
            rules=self._rules, losses=self._losses, answers=self._answers, hidden=hidden.rows(subset), subset=subset, throne=throne
        )

    def measure(self) -> tuple[SignedMeasurement, ...]:
        """Measure everything that the decision needs; return it in the order of the plan, what doubts called for last."""
        wanted = needs(self._throne, self._cases, self._beacons, self._rules, round_index=self._index)
        kings = [need for need in wanted if need.role == "king"]
        extra = self._run_kings(kings)
        self._run([need for need in wanted if need.role != "king"], king_ran=bool(kings))
        return tuple(self._finished(need) for need in (*wanted, *extra))

    def _run_kings(self, kings: Sequence[Need]) -> tuple[Need, ...]:
        """Run the king; return what his doubtful runs call for beyond that. They are written down when it is clear whose fault it is."""
        held: dict[Need, Measured] = {}

        def keep(need: Need) -> None:
            measured = held.pop(need)
            self._keep(need, measured, self._guarded(need, measured, kings))

        def measure(needed: Sequence[Need]) -> list[Measurement]:
            for need, measured in self._measured_kings(self._missing(needed)):
                held[need] = measured
                if need in kings and not doubtful(measured.measurement, self._throne.pool):
                    keep(need)
            return [held[need].measurement if need in held else self._finished(need).measurement for need in needed]

        extra = settle(self._throne, measure(kings), self._rules, measure=measure)
        for need in sorted(held, key=lambda need: need in kings):
            keep(need)
        return extra

    def _measured_kings(self, missing: Sequence[Need]) -> Iterator[tuple[Need, Measured]]:
        """Yield runs of the king and of the reference as they end."""
        if missing:
            bench, tries, reference = self._bench(missing), self._rules.defer_limit, self._services.genesis
            work = [self._work(need) for need in missing]
            found = self._services.executor.map(lambda one: king_run(bench, one, tries, reference=reference), work)
            yield from zip(missing, found, strict=True)

    def _missing(self, wanted: Sequence[Need]) -> list[Need]:
        return [need for need in wanted if self._services.events.get("measurement", self._key(need)) is None]

    def _bench(self, missing: Sequence[Need]) -> Bench:
        subsets = {need.subset for need in missing}
        return Bench(
            rules=self._rules,
            sandbox=self._services.sandbox,
            data=self._services.data,
            hidden={subset: self._hidden.rows(subset) for subset in subsets},
            environment=self._environment(),
            executor=self._services.hotkey.key_id,
            round_index=self._index,
            beacon_two=self._beacons.two,
            king_losses={subset: losses for subset in subsets if (losses := self._king_losses(subset)) is not None},
            scratch=self._services.scratch,
            genesis=self._services.genesis,
            king_share=share_over_tau(self._records, self._throne.king.tree),
            examinations=self._services.examinations,
            king_answers=self._answers.king(self._throne.king.tree, [one.name for one in self._services.examinations]),
        )

    def _run(self, wanted: Sequence[Need], *, king_ran: bool) -> None:
        missing = self._missing(wanted)
        if not missing:
            return
        bench = self._bench(missing)
        work = [self._work(need) for need in missing]
        tries = self._rules.defer_limit
        found = self._services.executor.map(lambda one: retried(bench, one, tries, king_ran=king_ran), work)
        for need, measured in zip(missing, found, strict=True):
            guarded = self._guarded(need, measured, wanted)
            self._keep(need, measured, guarded)

    def _environment(self) -> Environment:
        """Return the pins of our stack, kept for the Record."""
        environment = self._services.environment()
        key = environment.digest().hex()
        if self._services.events.get("environment", key) is None:
            self._services.events.append("environment", key, environment.to_bytes())
        return environment

    def _guarded(self, need: Need, measured: Measured, wanted: Sequence[Need]) -> dict[str, object]:
        """Keep what a run lost on every document; return the fields of its Measurement that follow from it and the runs before."""
        if measured.document_nats is None:
            return {}
        self._losses.keep(need, measured.measurement.weights, measured.document_nats)
        self._answers.keep(need, measured.examined)
        guards = self._guarding.rows(need, wanted, beacon_two=self._beacons.two)
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
        told = f"{measurement.score.val_bpb:.4f} bpb" if measurement.score else measurement.failure and measurement.failure.reason
        logger.info("round %d: measured %s: %s", self._index, need.key, told)

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

    def _work(self, need: Need) -> Work:
        if need.weights is not None:
            weights = self._services.private.get(need.weights, limit=MAX_PRIVATE_BYTES)
            return Work(need=need, tree=tree_of(self._services, need.tree), weights=weights)
        if need.role == "king":
            return Work(need=need, tree=self._king, weights=None)
        tree = tree_of(self._services, need.tree)
        if need.executed:
            return Work(need=need, tree=tree, weights=None)
        case = next(case for case in self._cases if case.tree == need.tree and case.refusal is None)
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
        return f"{self._index}/{need.key}"


def _claims_key(tree: bytes, subset: Subset) -> str:
    return f"{tree.hex()}/{subset.key}"


def _is_compared(subset: Subset) -> bool:
    """Return whether challengers are scored on these documents too."""
    return subset.shard != "audit" and subset.crown is None
