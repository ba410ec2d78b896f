"""Establish that a tree is not a copy of the king or of a patch that somebody announced before."""

from ralph.protocol.lineage import Throne
from ralph.protocol.reasons import Reason
from ralph.protocol.verdict import Finding

GATE = "novelty"


def novelty(*, normalised: bytes, hotkey: str, king_normalised: bytes, throne: Throne, earlier_in_queue: dict[bytes, str]) -> Finding:
    """Compare normalised digests, which are blind to comments, docstrings and layout.

    Args:
        normalised: Digest of the candidate's tree.
        hotkey: Who submits it; one may re-announce one's own failed patch, once per reign.
        king_normalised: Digest of the king's tree.
        throne: Knows every patch opened so far.
        earlier_in_queue: Normalised digest -> hotkey of cases of this round with an earlier place.
    """
    if normalised == king_normalised:
        return Finding(gate=GATE, reason=Reason.INT_DUP, detail="the patch leaves the king's recipe as it is, but for comments or layout")
    for seen, owner in (*throne.seen_patches, *earlier_in_queue.items()):
        if seen == normalised and owner != hotkey:
            return Finding(gate=GATE, reason=Reason.INT_DUP, detail=f"the same tree was submitted before by {owner}")
    if normalised in throne.entered:
        return Finding(gate=GATE, reason=Reason.INT_DUP, detail="this tree entered the filter before in this reign")
    return Finding(gate=GATE, reason=None, detail=f"unlike the king and {len(throne.seen_patches)} earlier patches")
