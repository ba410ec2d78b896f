"""Establish that every digest, signature and preimage of a submission is what the chain committed to."""

from ralph.protocol.keys import verify_hotkey
from ralph.protocol.reasons import Reason
from ralph.protocol.seeds import nonce
from ralph.protocol.submission import Case, Submission
from ralph.protocol.verdict import Finding

GATE = "integrity"


def integrity(case: Case) -> Finding:
    """Recompute everything; nothing that the miner supplies is compared only with itself."""
    facts, submission, announcement = case.facts, case.submission, case.announcement
    expected_nonce = nonce(beacon_one=facts.beacon_one, announcement=facts.slot_announcement, hotkey=facts.hotkey)
    message = Submission.message(announcement=facts.slot_announcement, nonce=expected_nonce, bundle=facts.slot_bundle)
    checks: tuple[tuple[bool, Reason, str], ...] = (
        (submission.hotkey == facts.hotkey, Reason.INT_SIG, "the submission names another hotkey than its slot"),
        (submission.announcement == facts.slot_announcement, Reason.INT_HASH, "the submission names another announcement than its slot"),
        (submission.nonce == expected_nonce, Reason.INT_HASH, "the nonce is not the one that beacon B1 gives"),
        (submission.bundle == facts.slot_bundle, Reason.INT_HASH, "the submission names another bundle than its slot"),
        (case.manifest.digest() == facts.slot_bundle, Reason.INT_HASH, "the manifest is not the one on chain"),
        (verify_hotkey(facts.hotkey, message, submission.signature), Reason.INT_SIG, "the hotkey's signature does not verify"),
        (announcement.digest() == facts.slot_announcement, Reason.INT_HASH, "the revealed preimage is not what was announced"),
        (announcement.hotkey == facts.hotkey, Reason.INT_SIG, "the announcement was made for another hotkey"),
        (announcement.parent == case.king.digest(), Reason.INT_PARENT, "the announced parent is not the king's tree"),
        (announcement.parent[:8] == facts.slot_parent, Reason.INT_HASH, "the slot shows another parent than the preimage"),
        (announcement.hypothesis == case.hypothesis.digest(), Reason.INT_HASH, "the hypothesis is not the announced one"),
        (announcement.environment == case.environment.digest(), Reason.INT_HASH, "the environment is not the announced one"),
    )
    for passed, reason, detail in checks:
        if not passed:
            return Finding(gate=GATE, reason=reason, detail=detail)
    wanted = tuple((facts.rung, seed) for seed in facts.seeds)
    if tuple(sorted(case.runs)) != tuple(sorted(wanted)):
        got = ", ".join(f"{rung}-{seed:016x}" for rung, seed in sorted(case.runs))
        drawn = ", ".join(f"{rung}-{seed:016x}" for rung, seed in sorted(wanted))
        return Finding(gate=GATE, reason=Reason.INT_SEED, detail=f"runs {got}; the beacon drew {drawn}")
    return Finding(gate=GATE, reason=None, detail=f"{len(case.manifest.files)} files, signature and preimage agree")
