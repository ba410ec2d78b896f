"""Whose fault is it that the king's run failed? Ask the king once more and the reference recipe twice, before anything is written down.

A failure of ours must leave no trace: events are final, and a round that is held is tried again from where it was.
"""

import logging
from collections.abc import Callable, Sequence

from ralph.errors import InfrastructureError
from ralph.judge.canary import Blame, blame
from ralph.judge.plan import Need, follow_ups
from ralph.judge.table import doubts
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import Measurement
from ralph.protocol.rules import Rules

logger = logging.getLogger(__name__)


def settle(
    throne: Throne, kings: Sequence[Measurement], rules: Rules, *, measure: Callable[[Sequence[Need]], Sequence[Measurement]]
) -> tuple[Need, ...]:
    """Measure what the doubts about the king's runs call for; return the list of it.

    Args:
        throne: State before the round.
        kings: The king's measurements of the round, in the order of their needs.
        rules: The Rules in force.
        measure: Runs needs and keeps nothing.

    Raises:
        InfrastructureError: ``OPS-HOLD``, the reference does not hold either, or the genesis recipe itself is in doubt: the fault is ours.
    """
    answers: dict[Need, Measurement] = {}
    while True:
        seen = (*kings, *answers.values())
        asked = follow_ups(throne, seen, rules)
        more = [need for need in asked if need not in answers]
        if not more:
            break
        logger.warning("the king's runs are in doubt: %d more runs tell whose fault it is", len(more))
        answers |= dict(zip(more, measure(more), strict=True))
    for run in doubts(kings, throne):
        found = None if throne.former is None else blame(run.seed, seen, throne.pool, rules.canary)
        if found is None or found is Blame.OURS:
            reason = run.failure.reason if run.failure else "other weights than before"
            raise InfrastructureError(f"the king's run {run.seed:016x}: {reason}; nor does the reference recipe hold", code="OPS-HOLD")
        if found is Blame.KING and run.stage != "probation":
            break
    return asked
