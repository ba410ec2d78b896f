"""Time, compared with the king's: how long his trainings and evaluations took here, and challengers that took too long.

A clock decides on rungs whose Rules say so, and there it decides only whether a training is refused: no figure of it enters a
Measurement. King and challenger of one stage and seed are compared, both trained by this validator in this round. Of an evaluation it is
processor time that counts, on every rung, and only a multiple of the king's that no honest model needs is refused.
"""

import logging
from dataclasses import replace

from ralph.errors import UntrustedInputError
from ralph.judge.plan import Need
from ralph.protocol.canonical import decode, encode
from ralph.protocol.measurement import Failure, Measurement
from ralph.protocol.reasons import Reason
from ralph.protocol.rules import Rung
from ralph.records.events import EventTable
from ralph.train.budget import check_time

logger = logging.getLogger(__name__)

KIND, COST = "training-time", "evaluation-cost"
MAX_BYTES = 16
SLACK_S = 1.0
"""Processor time of an evaluation that is never too much."""


class Times:
    """The training times of one round's king, kept as events so that they survive a kill.

    Args:
        events: The validator's event table.
        rung: The decision rung.
        king: Digest of the king's tree.
        round_index: The round.
    """

    def __init__(self, events: EventTable, *, rung: Rung, king: bytes, round_index: int) -> None:
        self._events, self._rung, self._king, self._round = events, rung, king, round_index

    def judged(self, need: Need, measurement: Measurement, training_s: float | None) -> Measurement:
        """Keep the time of a king's training; return a challenger's measurement, as a failure where its training took too long."""
        limited = self._rung.max_time_ratio > 0 or self._rung.reference_s > 0
        if not limited or training_s is None or measurement.failure is not None or need.role not in ("king", "challenger"):
            return measurement
        key = f"{self._round}/{replace(need, role='king', tree=self._king).key}"
        king_s = _kings(self._events, KIND, key, need, training_s)
        if need.role == "king":
            return measurement
        try:
            check_time(training_s, king_s, self._rung)
        except UntrustedInputError as error:
            logger.info("run %s of tree %s is refused: %s %s", need.stage, need.tree.hex()[:16], error.code, error.detail)
            return _refused(measurement, error.code, f"the training took longer than rung {self._rung.name} allows")
        return measurement


class Costs:
    """What the king's evaluations cost on one subset of documents, kept as events; one of them is enough for a reign.

    Args:
        events: The validator's event table.
        king: Digest of the king's tree.
        ratio: Most that a challenger's may cost, as a multiple; 0 for no limit.
    """

    def __init__(self, events: EventTable, *, king: bytes, ratio: float) -> None:
        self._events, self._king, self._ratio = events, king, ratio

    def judged(self, need: Need, measurement: Measurement, scoring_cpu_s: float) -> Measurement:
        """Keep the cost of a king's evaluation; return a challenger's measurement, as a failure where its evaluation cost too much."""
        if not self._ratio or measurement.score is None or need.role not in ("king", "challenger"):
            return measurement
        key = f"{self._king.hex()}/{need.subset.key}/{measurement.score.cells}"
        king_s = _kings(self._events, COST, key, need, scoring_cpu_s)
        if king_s is None or scoring_cpu_s <= SLACK_S + self._ratio * king_s:
            return measurement
        logger.info("run %s of tree %s: its evaluation took %.1f s of processor time", need.stage, need.tree.hex()[:16], scoring_cpu_s)
        detail = f"the evaluation took more than {self._ratio:g} times the king's processor time"
        return _refused(measurement, Reason.RUN_BUDGET, detail)


def _kings(events: EventTable, kind: str, key: str, need: Need, seconds: float) -> float | None:
    """Keep a figure of the king's where it is the first; return it for a challenger, None where there is none and for the king himself."""
    payload = events.get(kind, key)
    if need.role == "king":
        if payload is None:
            events.append(kind, key, encode(round(seconds * 1e6)))
        return None
    return None if payload is None else decode(payload, limit=MAX_BYTES) / 1e6


def _refused(measurement: Measurement, reason: str, detail: str) -> Measurement:
    return measurement.model_copy(update={"score": None, "failure": Failure(reason=reason, detail=detail)})
