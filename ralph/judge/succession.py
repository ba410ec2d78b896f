"""How the throne changes hands: every move of a king's standing, as pure functions.

    crown      the reigning king -> dethroned, the new one -> probation
    vest       probation -> vested, when the runs after the crown are in
    demote     the reigning king -> demoted, the king before: dethroned -> restored, or back on probation if his own was not over

A restored king goes on with his own reign: what is kept of his pool on the present documents, the proof entries that spent his error
budget and the patches that entered; his share falls from his own crown on. A probation that was open when he fell goes on only on the
documents that it began on, and else begins anew. Nobody can demote the genesis recipe.
"""

from collections.abc import Sequence
from dataclasses import replace

from ralph.errors import CorruptStateError
from ralph.judge.canary import Cause
from ralph.protocol.lineage import Kept, KingRun, Reign, Throne, TrialRun
from ralph.protocol.record import DemotionRow
from ralph.protocol.rules import CrownRules


def on_probation(throne: Throne) -> bool:
    """Return whether the reigning king still has runs to make beside the king before."""
    return throne.king.standing == "probation"


def crowned_tag(throne: Throne) -> str:
    """Return the release tag of the next crown: every crown has a number, also those that were taken back."""
    return f"recipe-v1.{len(throne.lineage)}.0"


def crown(
    throne: Throne, reign: Reign, pool: tuple[KingRun, ...], *, sealed_documents: int = 0, broken_off: frozenset[bytes] = frozenset()
) -> Throne:
    """Put a new king on the throne and keep what the old one had.

    Args:
        throne: Everything of the round folded in but the crown.
        reign: The new king.
        pool: His runs so far.
        sealed_documents: How many documents the crown seals.
        broken_off: Normalised digests of contests that end undecided because of the crown. With the old king they may enter once more.
    """
    kept = Kept(pool=throne.pool, entries=throne.entries, entered=throne.entered - broken_off, rotation=throne.rotation)
    old = replace(throne.king, standing="dethroned", kept=kept)
    lineage = (*_with(throne, throne.seat, old), replace(reign, parent=throne.seat, standing="probation"))
    return replace(throne, lineage=lineage, pool=pool, sealed_documents=sealed_documents, entries=0, entered=frozenset(), contests=())


def tried(throne: Throne, fresh: Sequence[TrialRun], former: Sequence[KingRun], rules: CrownRules) -> Throne:
    """Add runs to the king's probation, and the former king's among them to what is kept of him; the king is vested when all are in."""
    trial = (*throne.king.trial, *fresh)
    over = on_probation(throne) and len(trial) >= rules.probation_runs
    king = replace(throne.king, trial=trial, standing="vested" if over else throne.king.standing)
    after = replace(throne, lineage=_with(throne, throne.seat, king))
    before, place = throne.former, throne.king.parent
    if before is None or before.kept is None or place is None:
        return after
    kept = replace(before.kept, pool=(*before.kept.pool, *former))
    return replace(after, lineage=_with(after, place, replace(before, kept=kept)))


def demotion(throne: Throne, cause: Cause) -> DemotionRow:
    """Return what a Record says of the reigning king's demotion. Raises CorruptStateError for the genesis recipe."""
    restored = _before(throne)
    newest = throne.lineage[-1].crowned_round
    number = 1 + sum(reign.demoted_round is not None and reign.demoted_round > newest for reign in throne.lineage)
    return DemotionRow(
        tree=throne.king.tree,
        hotkey=throne.king.hotkey,
        restored=restored.tree,
        restored_hotkey=restored.hotkey,
        reason=str(cause.reason),
        detail=cause.detail,
        evidence=cause.evidence,
        tag=f"recipe-v1.{len(throne.lineage) - 1}.{number}",
    )


def demote(throne: Throne, round_index: int, rules: CrownRules) -> Throne:
    """Take the reigning king off the throne and put the king before him back."""
    before = _before(throne)
    if before.kept is None or before.standing != "dethroned" or throne.king.parent is None:
        raise CorruptStateError(f"{before.tag} cannot be restored: it is {before.standing}")
    open_trial = before.parent is not None and len(before.trial) < rules.probation_runs
    kept, stale = before.kept, open_trial and before.kept.rotation != throne.rotation
    restored = replace(
        before,
        standing="probation" if open_trial else "restored",
        trial=() if stale else before.trial,
        kept=None,
        restored_round=round_index,
    )
    fallen = replace(throne.king, standing="demoted", demoted_round=round_index)
    lineage = list(_with(throne, throne.seat, fallen))
    lineage[throne.king.parent] = restored
    return replace(
        throne, lineage=tuple(lineage), pool=kept.pool, sealed_documents=0, entries=kept.entries, entered=kept.entered, contests=()
    )


def _before(throne: Throne) -> Reign:
    if throne.former is None:
        raise CorruptStateError("the genesis recipe cannot be demoted: there is no king before it", code="OPS-HOLD")
    return throne.former


def _with(throne: Throne, place: int, reign: Reign) -> tuple[Reign, ...]:
    return (*throne.lineage[:place], reign, *throne.lineage[place + 1 :])
