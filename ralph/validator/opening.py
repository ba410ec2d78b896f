"""Open what is over: documents, salts and proofs, and every exact score on them, into the public store.

Called in the first round of a rotation for what ended with the one before; the round's Record names the objects.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ralph.errors import CorruptStateError
from ralph.evaluate.estimator import bits_per_byte
from ralph.interfaces import BundleStore
from ralph.judge.plan import exam_of
from ralph.judge.rotation import ended
from ralph.protocol.measurement import ExactScore, ExactScores, Measurement
from ralph.protocol.pool import Subset
from ralph.protocol.record import OpeningRow, Record
from ralph.protocol.rules import Rules
from ralph.validator.guarding import DocumentLosses
from ralph.validator.hidden import HiddenRound


@dataclass(frozen=True, slots=True, kw_only=True)
class Openings:
    """Publishes what the round that begins no longer hides."""

    rules: Rules
    store: BundleStore
    losses: DocumentLosses
    hidden: HiddenRound
    records: Sequence[Record]
    """All before this round, oldest first."""

    def publish(self) -> tuple[OpeningRow, ...]:
        """Publish every subset that is over. Doing it again changes nothing."""
        return tuple(self._publish(subset) for subset in ended(self.records, self.rules.hidden, len(self.records)))

    def _publish(self, subset: Subset) -> OpeningRow:
        documents = self.store.put(self.hidden.opened(subset).to_bytes())
        scores = ExactScores(subset=subset, scores=tuple(self._scores(subset)))
        return OpeningRow(subset=subset, documents=documents, scores=self.store.put(scores.to_bytes()))

    def _scores(self, subset: Subset) -> Iterator[ExactScore]:
        size = int(self.hidden.rows(subset).byte_counts.sum())
        for measurement in scored(self.records, subset):
            nats = self.losses.find(exam_of(subset, measurement.tree, measurement.seed), measurement.weights)
            if nats is None:
                detail = f"the losses of run {measurement.seed:016x} on {subset.key} are not in the private store; restore it from a copy"
                raise CorruptStateError(detail)
            value = bits_per_byte(math.fsum(nats.tolist()), size)
            yield ExactScore(measurement=measurement.digest(), val_bpb=value, document_nats=nats.tobytes())


def scored(records: Sequence[Record], subset: Subset) -> Iterator[Measurement]:
    """Yield every Measurement with a score on a subset, in the order of the Records."""
    for record in records:
        for item in record.measurements:
            if item.measurement.subset == subset and item.measurement.score is not None:
                yield item.measurement
