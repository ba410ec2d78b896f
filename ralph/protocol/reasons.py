"""Every reason code: what it says, whose side it is on, and what to do next.

The first three letters name the side: ``INT`` intake, ``RUN`` the run, ``FRD`` integrity of claims,
``STA`` statistics, ``OPN`` what a validator opens, ``OPS`` ours. Codes are wire format: they are never renamed.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """A reason code."""

    INT_SCHEMA = "INT-SCHEMA"
    INT_SIZE = "INT-SIZE"
    INT_HASH = "INT-HASH"
    INT_SIG = "INT-SIG"
    INT_LATE = "INT-LATE"
    INT_PARENT = "INT-PARENT"
    INT_CAP = "INT-CAP"
    INT_DUP = "INT-DUP"
    INT_SEED = "INT-SEED"
    INT_SCOPE = "INT-SCOPE"
    INT_NOAPPLY = "INT-NOAPPLY"
    INT_ABSENT = "INT-ABSENT"
    INT_WITHHELD = "INT-WITHHELD"
    INT_BARRED = "INT-BARRED"
    RUN_IMPORT = "RUN-IMPORT"
    RUN_OOM = "RUN-OOM"
    RUN_NAN = "RUN-NAN"
    RUN_STALL = "RUN-STALL"
    RUN_SHAPE = "RUN-SHAPE"
    RUN_INIT = "RUN-INIT"
    RUN_PARAMS = "RUN-PARAMS"
    RUN_BUDGET = "RUN-BUDGET"
    RUN_CRASH = "RUN-CRASH"
    RUN_NUMERIC = "RUN-NUMERIC"
    RUN_KING = "RUN-KING"
    FRD_CLAIM = "FRD-CLAIM"
    FRD_REPLAY = "FRD-REPLAY"
    FRD_CHAIN = "FRD-CHAIN"
    FRD_SEGMENT = "FRD-SEGMENT"
    STA_NOISE = "STA-NOISE"
    STA_WORSE = "STA-WORSE"
    STA_REGRESS = "STA-REGRESS"
    STA_CONTINUE = "STA-CONTINUE"
    STA_QUEUED = "STA-QUEUED"
    STA_CROWN = "STA-CROWN"
    STA_POOL = "STA-POOL"
    OPN_SUBSET = "OPN-SUBSET"
    OPN_ABSENT = "OPN-ABSENT"
    OPN_EXTRA = "OPN-EXTRA"
    OPN_SWAP = "OPN-SWAP"
    OPN_LEAF = "OPN-LEAF"
    OPN_POOL = "OPN-POOL"
    OPN_PLACE = "OPN-PLACE"
    OPN_SCORE = "OPN-SCORE"
    OPN_MISSING = "OPN-MISSING"
    OPN_LATE = "OPN-LATE"
    OPN_EARLY = "OPN-EARLY"
    STA_ROLLBACK = "STA-ROLLBACK"
    STA_UNSTABLE = "STA-UNSTABLE"
    STA_CANARY = "STA-CANARY"
    STA_DEMOTED = "STA-DEMOTED"
    OPS_INFRA = "OPS-INFRA"
    OPS_HOLD = "OPS-HOLD"
    OPS_NUMERIC = "OPS-NUMERIC"
    OPS_LATE = "OPS-LATE"
    OPS_CONFIG = "OPS-CONFIG"
    OPS_CORRUPT = "OPS-CORRUPT"
    OPS_DATA = "OPS-DATA"
    OPS_DISK = "OPS-DISK"
    OPS_SANDBOX = "OPS-SANDBOX"


class Fault(StrEnum):
    """Whose side a reason is on."""

    MINER = "miner"
    STATISTICS = "nobody"
    OURS = "validator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a reason code means to a person."""

    code: Reason
    sentence: str
    next_step: str

    @property
    def fault(self) -> Fault:
        """Return whose side the reason is on."""
        if self.code.startswith("STA"):
            return Fault.STATISTICS
        return Fault.OURS if self.code.startswith(("OPS", "OPN")) else Fault.MINER


OPENED = "Trust no crown of this rotation until the validator has explained it; scores on these documents cannot be checked."

_TABLE: tuple[tuple[Reason, str, str], ...] = (
    (Reason.INT_SCHEMA, "A file or structure does not have exactly the required fields.", "Build the bundle with `ralph miner` of this release; do not edit it by hand."),
    (Reason.INT_SIZE, "Something is larger than the Rules allow.", "Make the named file smaller than the stated limit."),
    (Reason.INT_HASH, "Bytes do not match the digest that names them.", "Upload the file again; nothing may change after its digest is on chain."),
    (Reason.INT_SIG, "A signature does not verify under the key that must have made it.", "Sign with the hotkey that made the announcement."),
    (Reason.INT_LATE, "It was on chain after its deadline.", "Announce before block A and submit before block S of the round."),
    (Reason.INT_PARENT, "The patch was made for a recipe that is not the king's.", "Rebase on the king and announce again."),
    (Reason.INT_CAP, "The cap on announcements of one coldkey is reached.", "Wait for the next round."),
    (Reason.INT_DUP, "The same change was announced by somebody before.", "Submit a change of your own; cosmetic edits do not make one."),
    (Reason.INT_SEED, "The run was made with a seed that the beacon did not draw.", "Prove with the seeds that `ralph miner` derives from beacon B1."),
    (Reason.INT_SCOPE, "The patch touches something that is not patchable.", "Change only the paths and file types that the Rules list."),
    (Reason.INT_NOAPPLY, "The patch does not apply to the king's recipe.", "Make the diff against the king's tree."),
    (Reason.INT_ABSENT, "Announced, but the proof was not on chain by its deadline.", "Submit before block S of every round while the contest runs."),
    (Reason.INT_WITHHELD, "A file that the bundle names could not be fetched.", "Keep every file of the bundle in the store until the case is terminal."),
    (Reason.INT_BARRED, "This hotkey is barred after a forgery.", "None until the stated block."),
    (Reason.RUN_IMPORT, "The recipe could not be imported or built.", "Run `ralph train` on the patched recipe and fix the error it prints."),
    (Reason.RUN_OOM, "The run needed more memory than the rung allows.", "Use less memory."),
    (Reason.RUN_NAN, "A loss, gradient or weight was not finite, or a loss exploded.", "Lower the learning rate or fix the numerics."),
    (Reason.RUN_STALL, "The worker did not answer within the deadline.", "Make a step faster; the worker must answer every request."),
    (Reason.RUN_SHAPE, "The worker sent something of another shape or kind than it must.", "Keep the interface that recipe/README.md describes."),
    (Reason.RUN_INIT, "A parameter tensor is the same under two seeds but is no declared constant.", "Initialise from torch's random generator or with a constant."),
    (Reason.RUN_PARAMS, "More parameters than the rung allows.", "Make the model smaller."),
    (
        Reason.RUN_BUDGET,
        "The plan or the time of the training is over the budget of the rung.",
        "Keep steps x batch x sequence within the token budget and the step limit; where the rung limits time, train as fast as the king.",
    ),
    (Reason.RUN_CRASH, "The recipe raised an error or its process ended.", "Run `ralph train` on the patched recipe and fix the error it prints."),
    (
        Reason.RUN_NUMERIC,
        "The model's losses come out differently every time, on a machine where the king's repeat.",
        "Draw nothing at random and keep nothing from one request to the next while the model is evaluated.",
    ),
    (
        Reason.RUN_KING,
        "The king's run fails, or does not repeat, on machines where the reference recipe's does.",
        "Make the recipe independent of machine, time and what it ran before; the king before reigns again.",
    ),
    (Reason.FRD_CLAIM, "The model claims losses that it cannot reproduce from prefixes alone.", "A model must be causal: a logit may depend on no later token and on no other row."),
    (Reason.FRD_REPLAY, "A re-run of the claimed run gave another result.", "Submit only runs that the host made with the announced patch and seed."),
    (Reason.FRD_CHAIN, "The transcript is not one unbroken chain over the plan.", "Submit the transcript as the host wrote it."),
    (Reason.FRD_SEGMENT, "A training state is not the one that its digest commits to.", "Keep the states of a run as the host wrote them."),
    (Reason.STA_NOISE, "The effect is not distinguishable from noise at this look.", "Look for a larger effect, or for one with less variance."),
    (Reason.STA_WORSE, "The change made the recipe worse.", "Try something else; the row is kept so that others need not try it again."),
    (Reason.STA_REGRESS, "Better on the whole, but not shown to be no worse on one part of the test.", "Find what it costs on the named part, and keep that."),
    (Reason.STA_CONTINUE, "Promising: the contest goes on with fresh seeds.", "Keep the miner running; the next look needs its runs."),
    (Reason.STA_QUEUED, "More cases than this round can judge.", "Nothing to do: it keeps its place."),
    (Reason.STA_CROWN, "Decisively better than the king on fresh seeds.", "Nothing to do: this is the king now."),
    (Reason.STA_POOL, "The pool of king runs is still being measured.", "Wait for the next round."),
    (Reason.OPN_SUBSET, "What was opened is of another validator, shard, rotation or crown than it is published as.", OPENED),
    (Reason.OPN_ABSENT, "A document that was drawn and scored is not opened.", OPENED),
    (Reason.OPN_EXTRA, "A document is opened that was not drawn, or twice, or out of order.", OPENED),
    (Reason.OPN_SWAP, "Another document of the same shard is opened in the place of the drawn one.", OPENED),
    (Reason.OPN_LEAF, "Salt, source or tokens of an opened document are not those that were committed to.", OPENED),
    (Reason.OPN_POOL, "An opened document is of another pool or shard than was drawn from.", OPENED),
    (Reason.OPN_PLACE, "An opened document was committed to, but by its text it does not belong into this pool or shard.", OPENED),
    (Reason.OPN_SCORE, "The exact losses on opened documents do not give the score that was published.", OPENED),
    (Reason.OPN_MISSING, "Documents are over and were not opened in the round in which they had to be.", OPENED),
    (Reason.OPN_LATE, "Documents were opened in a later round than that in which they had to be.", OPENED),
    (Reason.OPN_EARLY, "Documents were opened while they were still scored.", OPENED),
    (Reason.STA_ROLLBACK, "The king is worse than the king before on runs made after the crown.", "Nothing to do: the king before reigns again; improve on him."),
    (Reason.STA_UNSTABLE, "The king failed more often than the king before on runs made after the crown.", "Make every seed train; the king before reigns again."),
    (Reason.STA_CANARY, "The king is much worse than the king before on documents that were drawn after the crown.", "Nothing to do: the king before reigns again; improve on him."),
    (Reason.STA_DEMOTED, "The king that this was compared with is demoted.", "Announce the change again, on the restored king; nothing is held against it."),
    (Reason.OPS_INFRA, "Something on the judging side failed.", "Nothing to do: it is retried and costs you nothing."),
    (Reason.OPS_HOLD, "The judges doubt themselves and keep paying the last verified king.", "Nothing to do: the operator is told."),
    (Reason.OPS_NUMERIC, "Two honest computations disagreed beyond the tolerance.", "Nothing to do: it is measured again."),
    (Reason.OPS_LATE, "A run took longer than this machine allows.", "Nothing to do: it is tried again; where the king is in time, a run that never is counts as RUN-STALL."),
    (Reason.OPS_CONFIG, "The configuration cannot be used.", "Correct the named value; `ralph config check` shows all of them."),
    (Reason.OPS_CORRUPT, "Stored state does not verify.", "Restore the named file from a copy; nothing was overwritten."),
    (Reason.OPS_DATA, "The data on disk is not the data that the Rules name.", "Run `ralph data verify`, then `ralph data prepare`."),
    (Reason.OPS_DISK, "The disk is full.", "Free space and start again; finished work is kept."),
    (Reason.OPS_SANDBOX, "No working sandbox on this machine.", "Run `ralph doctor`: it says what to install or to allow."),
)  # fmt: skip

EXPLANATIONS: dict[Reason, Explanation] = {
    code: Explanation(code=code, sentence=sentence, next_step=next_step) for code, sentence, next_step in _TABLE
}
"""Explanation of every reason code."""
