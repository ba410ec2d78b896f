"""Time, compared with the king's: how long the king's trainings of a round took here, and challengers that took too long.

A clock decides on rungs whose Rules say so, and there it decides only whether a training is refused: no figure of it enters a
Measurement. King and challenger of one stage and seed are compared, both trained by this validator in this round.
"""

import logging
from dataclasses import replace

from ralph.errors import UntrustedInputError
from ralph.judge.plan import Need
from ralph.protocol.canonical import decode, encode
from ralph.protocol.measurement import Failure, Measurement
from ralph.protocol.rules import Rung
from ralph.records.events import EventTable
from ralph.train.budget import check_time

logger = logging.getLogger(__name__)

KIND = "training-time"
MAX_BYTES = 16


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
        payload = self._events.get(KIND, key)
        if need.role == "king":
            if payload is None:
                self._events.append(KIND, key, encode(round(training_s * 1e6)))
            return measurement
        king_s = None if payload is None else decode(payload, limit=MAX_BYTES) / 1e6
        try:
            check_time(training_s, king_s, self._rung)
        except UntrustedInputError as error:
            logger.info("run %s of tree %s is refused: %s %s", need.stage, need.tree.hex()[:16], error.code, error.detail)
            failure = Failure(reason=error.code, detail=f"the training took longer than rung {self._rung.name} allows")
            return measurement.model_copy(update={"score": None, "failure": failure})
        return measurement
