"""L0: do the guards of a contest follow from the rounded figures that its proof runs published?

The difference of a guard is a mean over pairs of published values, so it can be computed again up to rounding. Its upper bound rests on
single documents and items, which stay with the validator: of it only the level below which it cannot be is checked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ralph.auditor.report import Check, Findings
from ralph.protocol.lineage import Throne
from ralph.protocol.measurement import GuardRow, Measurement, sits_exams
from ralph.protocol.record import Record
from ralph.protocol.rules import Rules
from ralph.protocol.scoring_rules import PRIVATE_ITEMS, GuardKind

Seen = dict[tuple[str, bytes, int], Measurement]
"""Runs by role, tree and seed, of all Records so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardAuditor:
    """Checks the task figures and the guards of one Record after the other.

    Args:
        rules: What is guarded.
        found: Where findings go.
        seen: Proof runs, filled by ``check``: what they answered holds for good.
        scored: The newest scores of the same runs; new documents replace them.
    """

    rules: Rules
    found: Findings
    seen: Seen = field(default_factory=dict)
    scored: Seen = field(default_factory=dict)

    def check(self, record: Record, before: Throne) -> None:
        """Check one Record; ``before`` is the state that it starts from."""
        runs = [item.measurement for item in record.measurements]
        self.seen.update({(one.role, one.tree, one.seed): one for one in runs if one.stage == "proof"})
        self.seen.update({key: one for one in runs if (key := self._stands_in(one)) is not None})
        self.scored.update({key: one for key, one in self.seen.items() if one.round == record.round})
        for one in runs:
            if one.stage == "rescore" and (one.subset.shard, one.subset.crown) == ("confirm", None):
                self.scored[one.role, one.tree, one.seed] = one
        for number, one in enumerate(runs):
            for holds, detail in self._task_faults(one):
                self.found.expect(Check.MEASUREMENT, f"round {record.round}", holds, f"measurement {number} {detail}")
        for one in runs:
            if one.guards:
                self._check_guards(record, one, before)

    def _stands_in(self, one: Measurement) -> tuple[str, bytes, int] | None:
        """Return the failed proof run of the king that a repeat stands in for."""
        key = (one.role, one.tree, one.seed)
        failed = key in self.seen and self.seen[key].score is None
        return key if failed and one.stage == "repeat" and one.score is not None else None

    def _task_faults(self, one: Measurement) -> Iterator[tuple[bool, str]]:
        """Yield what must hold of the answers to tasks."""
        wanted = self.rules.guards.exams if sits_exams(one.role, one.stage, one.subset) and one.score is not None else ()
        stated = tuple(value.task for value in one.tasks) if one.score is not None else ()
        yield stated == wanted, f"has answers to {list(stated)}, the Rules guard {list(wanted)}"
        for value in one.tasks:
            rounding = _rounding(self.rules, "answers")
            guard = self.rules.guards.private_items if value.task == PRIVATE_ITEMS else self.rules.guards.tasks
            most = guard.items if guard is not None else 0
            hits = value.accuracy * value.items
            whole = abs(hits - round(hits)) <= value.items * rounding
            yield 0 < value.items <= most, f"answers {value.items} items of {value.task}, the Rules ask at most {most}"
            yield 0 <= value.accuracy <= 1 and whole, f"has an accuracy of {value.accuracy} on {value.items} items of {value.task}"

    def _check_guards(self, record: Record, one: Measurement, before: Throne) -> None:
        seeds = [run.seed for contest in before.contests if contest.tree == one.tree for run in contest.runs]
        here = [item.measurement for item in record.measurements]
        seeds += [run.seed for run in here if (run.role, run.stage, run.tree) == (one.role, one.stage, one.tree)]
        keys = [(("challenger", one.tree, seed), ("king", before.king.tree, seed)) for seed in seeds]
        complete = bool(keys) and all(key in of for pair in keys for key in pair for of in (self.seen, self.scored))
        subject = f"round {record.round}"
        if not self.found.expect(Check.MEASUREMENT, subject, complete, "has guards over runs that it lacks"):
            return
        for row in one.guards:
            of = self.scored if row.kind == "source" else self.seen
            differences = [_difference(row, of[mine], of[his]) for mine, his in keys]
            told = [value for value in differences if value is not None]
            mean = sum(told) / len(told) if told else 0.0
            room = 2 * _rounding(self.rules, row.kind)
            same = len(told) == len(keys) and abs(mean - row.difference) <= room
            detail = f"the guard of {row.kind} {row.name} states {row.difference:+.5f}, its runs give {mean:+.5f}"
            self.found.expect(Check.MEASUREMENT, subject, same, detail)
            self.found.expect(Check.MEASUREMENT, subject, row.upper >= row.difference - room, f"{detail} and an upper end below it")


def _difference(row: GuardRow, challenger: Measurement, king: Measurement) -> float | None:
    """Return what a pair of runs gives for a guard, positive is worse; None where one of them says nothing."""
    mine, his = _value(row, challenger), _value(row, king)
    if mine is None or his is None:
        return None
    return his - mine if row.kind == "answers" else mine - his


def _value(row: GuardRow, run: Measurement) -> float | None:
    if row.kind == "source":
        sources: Mapping[str, float] = {} if run.score is None else {part.source: part.val_bpb for part in run.score.sources}
        return sources.get(row.name)
    values = {part.task: part.accuracy if row.kind == "answers" else part.gold_bpb for part in run.tasks}
    return values.get(row.name)


def _rounding(rules: Rules, kind: GuardKind) -> float:
    """Return the last published digit of a kind."""
    decimals = (rules.evaluation if kind == "source" else rules.exam).published_decimals
    return float(10.0**-decimals)
