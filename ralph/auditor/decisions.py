"""L0: does the outcome of a round follow from its inputs, and do the inputs contradict themselves or the Rules?"""

import math
from dataclasses import dataclass

from ralph.auditor.guards import GuardAuditor
from ralph.auditor.published import Published
from ralph.auditor.report import Check, Findings
from ralph.errors import RalphError
from ralph.judge.fold import redecide
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import Measurement, Score
from ralph.protocol.record import CaseRow, DemotionRow, Record
from ralph.protocol.rules import Rules

ORDERS = 10
"""Numbers that are rounded up to a power of ten may be so much larger than they were."""
HOSTILE = (RalphError, ValueError, ArithmeticError, LookupError, StopIteration)
"""What the production functions may raise on a Record that an operator made up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A Record with the states before and after it, both recomputed."""

    published: Published
    before: Throne
    after: Throne

    @property
    def record(self) -> Record:
        """Return the Record."""
        return self.published.record


def decide_again(records: tuple[Published, ...], rules: Rules, found: Findings) -> tuple[Decided, ...]:
    """Recompute every decision in order; stop after the first that cannot be recomputed, because nothing follows from it.

    A Record that states another outcome than its inputs give is a divergence, and the recomputed state is
    carried on.
    """
    throne, guards = Throne.genesis(rules.genesis_tree), GuardAuditor(rules=rules, found=found)
    decided: list[Decided] = []
    for published in records:
        record, subject = published.record, f"round {published.record.round}"
        found.expect(Check.LINK, subject, record.king == throne.king.tree, "the record names another king than the records before it give")
        check_measurements(record, rules, found)
        guards.check(record, throne)
        try:
            decision = redecide(throne, record, rules)
        except HOSTILE as error:
            found.expect(Check.DECISION, subject, False, f"the decision cannot be made from what the record holds: {error}")
            break
        detail = _difference(record, decision.outcomes) if decision.outcomes != record.outcomes else ""
        found.expect(Check.DECISION, subject, not detail, detail)
        crowned = "no king" if decision.crown is None else f"{decision.crown.hotkey} with tree {decision.crown.tree.hex()[:16]}"
        found.expect(Check.DECISION, subject, decision.crown == record.crown, f"the record crowns otherwise; its inputs crown {crowned}")
        _check_demotion(record.demotion, decision.demotion, subject, found)
        decided.append(Decided(published=published, before=throne, after=decision.throne))
        throne = decision.throne
    if len(decided) < len(records):
        found.unknown(Check.DECISION, f"rounds from {len(decided) + 1}", "the state before them could not be recomputed")
    return tuple(decided)


def _check_demotion(stated: DemotionRow | None, given: DemotionRow | None, subject: str, found: Findings) -> None:
    """Compare a demotion with the one that the inputs give: without cause, for another cause, or left out."""
    if stated is None or given is not None:
        due = "" if given is None else f"{given.tree.hex()[:16]} ({given.reason}: {given.detail})"
        found.expect(Check.OVERDUE, subject, stated is not None or given is None, f"the record keeps a king whom its inputs demote: {due}")
    if stated is not None and given is None:
        detail = f"the record demotes {stated.tree.hex()[:16]} with {stated.reason} without cause; its inputs demote nobody"
        found.expect(Check.DEMOTION, subject, False, detail)
    else:
        found.expect(Check.DEMOTION, subject, stated is None or stated == given, "the record demotes otherwise than its inputs do")


def _difference(record: Record, outcomes: tuple[object, ...]) -> str:
    """Say which outcome differs first."""
    for number, (stated, given) in enumerate(zip(record.outcomes, outcomes, strict=False)):
        if stated != given:
            return f"outcome {number} is stated as {stated.state} ({stated.reason}); the inputs give another"
    return f"{len(record.outcomes)} outcomes are stated, the inputs give {len(outcomes)}"


def check_measurements(record: Record, rules: Rules, found: Findings) -> None:
    """Check what a measurement says of itself: round, executor, rung, environment, budget, and a score that can be one."""
    subject = f"round {record.round}"
    environments = {environment.digest() for environment in record.environments}
    claims = {(case.tree, claim.seed): claim.weights for case in record.cases for claim in case.claims}
    rung = rules.rung(rules.crown.rung)
    for number, item in enumerate(record.measurements):
        one = item.measurement
        faults = (
            (one.round == record.round, f"is of round {one.round}"),
            (one.executor == record.validator, f"was executed by {one.executor}"),
            (one.rung == rung.name, f"is at rung {one.rung}"),
            (one.environment in environments, "names an environment that the record does not hold"),
            ((one.score is None) != (one.failure is None), "has both or neither of score and failure"),
            (one.tokens <= rung.tokens and one.parameters <= rung.max_parameters, "is over the budget of its rung"),
            (
                one.executed or one.stage == "rescore" or one.weights is None or claims.get((one.tree, one.seed)) == one.weights,
                "scored other weights than were claimed",
            ),
            (_complete(one), "lacks the digests of the run that it executed"),
        )
        for holds, detail in faults:
            found.expect(Check.MEASUREMENT, subject, holds, f"measurement {number} {detail}")
        if one.score is not None:
            for holds, detail in _score_faults(one, one.score, rules):
                found.expect(Check.MEASUREMENT, subject, holds, f"measurement {number} {detail}")


def _complete(one: Measurement) -> bool:
    """Return whether a scored run names its weights, and one that was executed also its transcript and segments."""
    if one.score is None:
        return True
    return one.weights is not None and (not one.executed or None not in (one.transcript_root, one.segments_root))


def _score_faults(one: Measurement, score: Score, rules: Rules) -> tuple[tuple[bool, str], ...]:
    """Return what must hold of a score.

    The correction is a mean of mismatches / (N pi) with pi >= (n_u/n)/N, and a token has at least one byte.
    """
    evaluation = rules.evaluation
    worst_nats = evaluation.tolerance(rules.rung(rules.crown.rung).device).worst_nats
    rounding_bpb = 10.0**-evaluation.published_decimals
    cells = evaluation.uniform_cells + evaluation.weighted_cells
    most = score.worst_mismatch_nats * cells / evaluation.uniform_cells * ORDERS
    parts = [part.val_bpb for part in score.sources]
    documents = rules.hidden.count(one.subset)
    full = score.documents == documents or (one.subset.crown is not None and 0 < score.documents < documents)
    inside = bool(parts) and min(parts) - rounding_bpb <= score.val_bpb <= max(parts) + rounding_bpb
    return (
        (full, f"scored {score.documents} documents, the Rules say {documents}"),
        (sum(part.documents for part in score.sources) == score.documents, "has sources whose documents do not add up"),
        (score.cells in (cells, 0), f"probed {score.cells} cells, the Rules say {cells}, or none of a reviewed recipe"),
        (0 <= score.worst_mismatch_nats <= worst_nats, f"has a mismatch of {score.worst_mismatch_nats} nats and is no failure"),
        (abs(score.correction_nats) <= most, "has a correction that its mismatch cannot give"),
        (
            abs(score.val_bpb - score.claimed_bpb) <= abs(score.correction_nats) / math.log(2) + rounding_bpb,
            "differs from its claims by more than the correction",
        ),
        (inside, "has a total outside its sources"),
    )


def case_name(case: CaseRow) -> str:
    """Return how findings name a case."""
    return f"case {case.case.hex()[:16]}"
