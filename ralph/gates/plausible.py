"""Establish that the claimed runs follow their plan and contradict neither themselves nor arithmetic.

For runs of a miner's own host this filters mistakes; it proves nothing. Throughput against a device's
peak is not checked here: CPU devnets record no clock that could decide anything.
"""

from ralph.errors import UntrustedInputError
from ralph.protocol.canonical import blob_digest
from ralph.protocol.reasons import Reason
from ralph.protocol.rules import Rung
from ralph.protocol.submission import Case, ClaimedRun
from ralph.protocol.verdict import Finding
from ralph.train.host import weight_limits
from ralph.train.plan import Plan
from ralph.train.safetensors_header import parse
from ralph.train.transcript import verify as verify_transcript
from ralph.train.wire import ITEM_BYTES

GATE = "plausible"


def plausible(case: Case, plan: Plan, rung: Rung) -> Finding:
    """Check every run of the bundle against the plan that the patched recipe implies."""
    for (name, seed), run in sorted(case.runs.items()):
        try:
            _check_run(run, name, seed, plan, rung)
        except UntrustedInputError as error:
            return Finding(gate=GATE, reason=Reason(error.code), detail=f"run {name}-{seed:016x}: {error.detail}")
    return Finding(gate=GATE, reason=None, detail=f"{len(case.runs)} runs of {plan.steps} steps, chains unbroken")


def _check_run(run: ClaimedRun, name: str, seed: int, plan: Plan, rung: Rung) -> None:
    claim = run.claim
    if (claim.rung, claim.seed) != (name, seed):
        raise UntrustedInputError("INT-SCHEMA", f"the claim is about {claim.rung}-{claim.seed:016x}")
    if (claim.steps, claim.batch_rows, claim.sequence, claim.tokens) != (plan.steps, plan.batch_rows, plan.sequence, plan.tokens):
        claimed = f"claims {claim.steps} steps, the last of {claim.batch_rows} x {claim.sequence}, and {claim.tokens} tokens"
        planned = f"the plan has {plan.steps}, the last of {plan.batch_rows} x {plan.sequence}, and {plan.tokens} tokens"
        raise UntrustedInputError("RUN-BUDGET", f"{claimed}; {planned}")
    summary = verify_transcript(run.transcript, plan)
    if (summary.root, summary.segments_root, summary.seed) != (claim.transcript_root, claim.segments_root, seed):
        raise UntrustedInputError("FRD-CHAIN", "root, segments or seed of the transcript are not the claimed ones")
    if blob_digest(run.weights) != claim.weights:
        raise UntrustedInputError("INT-HASH", "the weights are not the claimed ones")
    parameters = sum(tensor.size_bytes // ITEM_BYTES[tensor.dtype] for tensor in parse(run.weights, weight_limits(rung)))
    if parameters != claim.parameters:
        raise UntrustedInputError("RUN-PARAMS", f"{parameters} parameters in the file, {claim.parameters} claimed")
