"""Runs that fail: again where it may be ours, whose fault it is where it is in every attempt, and luck that is no seed's.

What may look like our failure is a patch's own where it meets that patch every time and the king never.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

from ralph.errors import InfrastructureError, UntrustedInputError
from ralph.protocol.measurement import Failure
from ralph.protocol.patch import RecipeTree
from ralph.protocol.reasons import Reason
from ralph.protocol.rules import Rung
from ralph.train.host import state_limits
from ralph.train.initial import check
from ralph.train.safetensors_header import parse
from ralph.validator.measure import Bench, Measured, Work

logger = logging.getLogger(__name__)

BLAME: Mapping[str, Reason] = {Reason.OPS_NUMERIC: Reason.RUN_NUMERIC, Reason.OPS_LATE: Reason.RUN_STALL}
"""What may look like our failure -> what it is where it meets a challenger every time and the king never."""


def retried(bench: Bench, work: Work, tries: int, *, king_ran: bool) -> Measured:
    """Measure, again where we failed.

    Args:
        bench: Where.
        work: What.
        tries: Attempts before we give up.
        king_ran: Whether the king has been measured in this round on this machine. Then a challenger whose numbers never repeat, or
            that is never in time, has himself to blame, and one submission cannot hold a round for ever.

    Raises:
        InfrastructureError: The last one, after ``tries`` attempts.
    """
    for attempt in range(1, tries + 1):
        try:
            return bench.measure(work)
        except InfrastructureError as error:
            logger.warning("attempt %d of %d: %s", attempt, tries, error)
            blame = BLAME.get(error.code) if king_ran and work.need.role != "king" else None
            if attempt == tries and blame is not None:
                return bench.failed(work.need, Failure(reason=blame, detail=f"in {tries} of {tries} attempts: {error.detail}"[:200]))
            if attempt == tries:
                raise
    raise ValueError("defer_limit is zero")


def king_run(bench: Bench, work: Work, tries: int, *, reference: RecipeTree) -> Measured:
    """Measure the king, or what a doubt about him calls for.

    What looks like our failure and meets him in every attempt is a failure of his where the reference recipe is measured on the same seed.
    Of kept weights it stays ours: nothing is trained on their seed again.

    Raises:
        InfrastructureError: Ours, and the reference's as well.
    """
    try:
        return retried(bench, work, tries, king_ran=False)
    except InfrastructureError as error:
        reason = BLAME.get(error.code)
        if reason is None or work.need.role != "king" or work.need.stage == "rescore" or work.tree.digest() == reference.digest():
            raise
        need = replace(work.need, role="reference", stage="canary", tree=reference.digest())
        if retried(bench, Work(need=need, tree=reference, weights=None), tries, king_ran=False).measurement.score is None:
            raise
        return bench.failed(work.need, Failure(reason=reason, detail=f"in {tries} of {tries} attempts: {error.detail}"[:200]))


def seed_decides(first: bytes, second: bytes, rung: Rung) -> Failure | None:
    """Compare two step-0 states of one tree under two seeds; return the failure of a recipe that carries its own luck."""
    limits = state_limits(rung)
    try:
        check(parse(first, limits), parse(second, limits))
    except UntrustedInputError as error:
        return Failure(reason=error.code, detail=error.detail[:200])
    return None
