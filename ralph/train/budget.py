"""What a training may use of its rung: parameters, memory and time, checked once the figures are known.

Nothing here ends a training early: a clock that does would make a run depend on the machine. Tokens are not here, because the
plan fixes them before the first step (``ralph.train.plan``).

Time is compared with the king's training by the same judge, on the same machine, in the same round; what a miner says of time is
never asked. Not promised: fairness between two trainings that another load on the machine hits unequally, which is why rungs of CPUs
carry no limit of time.
"""

from collections.abc import Sequence

from ralph.errors import UntrustedInputError
from ralph.protocol.reasons import Reason
from ralph.protocol.rules import Rung


def training_seconds(microseconds: Sequence[int]) -> float:
    """Return the seconds that a timing stream adds up to, without the first step, which compiles."""
    return sum(microseconds[1:]) / 1e6


def check_parameters(parameters: int, rung: Rung) -> None:
    """Raise UntrustedInputError ``RUN-PARAMS`` for a model over the rung's cap."""
    if parameters > rung.max_parameters:
        raise UntrustedInputError(Reason.RUN_PARAMS, f"{parameters} parameters, rung {rung.name} allows {rung.max_parameters}")


def check_memory(peak_bytes: int, rung: Rung) -> None:
    """Raise UntrustedInputError ``RUN-OOM`` for a peak over the rung's cap."""
    if peak_bytes > rung.max_memory_bytes:
        detail = f"{peak_bytes} bytes of memory at the peak, rung {rung.name} allows {rung.max_memory_bytes}"
        raise UntrustedInputError(Reason.RUN_OOM, detail)


def check_time(training_s: float, king_training_s: float | None, rung: Rung) -> None:
    """Raise UntrustedInputError ``RUN-BUDGET`` for a challenger's training over the rung's limits of time.

    Args:
        training_s: Seconds of the challenger's training.
        king_training_s: Seconds of the king's on the same machine; None when the king's was not timed, and no ratio is checked then.
        rung: Its ``max_time_ratio`` and ``reference_s``; each holds unless it is 0.
    """
    if rung.reference_s and training_s > rung.reference_s:
        raise UntrustedInputError(Reason.RUN_BUDGET, f"{training_s:.1f} s of training, rung {rung.name} allows {rung.reference_s} s")
    if rung.max_time_ratio and king_training_s is not None and training_s > rung.max_time_ratio * king_training_s:
        ratio = training_s / king_training_s if king_training_s else float("inf")
        detail = f"training took {ratio:.3f} times as long as the king's, rung {rung.name} allows {rung.max_time_ratio:g} times"
        raise UntrustedInputError(Reason.RUN_BUDGET, detail)
