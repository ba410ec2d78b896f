"""`ralph explain`: what became of a submission, measured against threshold, and what would help."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ralph.cli.errors import Exit, next_step
from ralph.cli.history import Situation, read_situation
from ralph.cli.output import JsonOption, emit
from ralph.errors import ConfigurationError, UntrustedInputError
from ralph.judge.rotation import turn
from ralph.judge.sequential import power_hint
from ralph.judge.statistics import Estimate, estimate
from ralph.judge.table import Table
from ralph.protocol.announcement import Slot, case_id
from ralph.protocol.lineage import Reign, Throne
from ralph.protocol.reasons import EXPLANATIONS, Reason
from ralph.protocol.record import TERMINAL_STATES, CaseRow, DemotionRow, OutcomeRow, Record
from ralph.protocol.rules import Rules

MIN_PREFIX = 6
MIN_POOL = 2
HINT_STATES = frozenset({"dropped", "filtering", "proving", "screened"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one round made of a case."""

    record: Record
    before: Throne
    case: CaseRow
    outcome: OutcomeRow


def explain(
    name: Annotated[str, typer.Argument(metavar="HOTKEY|CASE", help="A hotkey, or the first digits of a case or announcement.")],
    config: Annotated[Path, typer.Option(help="A node's TOML.")],
    json: JsonOption = False,
) -> None:
    """Say what became of a submission: what failed, measured against threshold, and what would help.

    Exit 0 crowned or still in the contest, 1 refused or dropped, 2 not judged yet.
    """
    seen = read_situation(config)
    steps = _steps(seen, name)
    if not steps:
        pending = _pending(seen, name)
        emit({"cases": [], "pending": pending}, [pending], as_json=json)
        raise typer.Exit(Exit.INCOMPLETE)
    cases = [_value(seen, found) for found in steps.values()]
    emit({"cases": cases, "pending": None}, [text for case in cases for text in _lines(case)], as_json=json)
    raise typer.Exit(Exit.NEGATIVE if cases[-1]["terminal"] and cases[-1]["state"] != "crowned" else Exit.OK)


def _steps(seen: Situation, name: str) -> dict[bytes, list[Step]]:
    """Return case -> what each round made of it, for the cases that ``name`` means."""
    found: dict[bytes, list[Step]] = {}
    before = Throne.genesis(seen.profile.rules.genesis_tree)
    for entry in seen.entries:
        record = entry.signed.record
        outcomes = {outcome.case: outcome for outcome in record.outcomes}
        for case in record.cases:
            if _means(name, case.hotkey, case.announcement):
                step = Step(record=record, before=before, case=case, outcome=outcomes[case.case])
                found.setdefault(case.case, []).append(step)
        before = entry.throne
    return found


def _means(name: str, hotkey: str, announcement: bytes) -> bool:
    if name == hotkey:
        return True
    prefix = name.lower()
    names = (case_id(announcement, hotkey).hex(), announcement.hex())
    return len(prefix) >= MIN_PREFIX and any(one.startswith(prefix) for one in names)


def _pending(seen: Situation, name: str) -> str:
    """Say what the chain knows of something that no Record mentions. Raises ConfigurationError when it knows nothing."""
    for hotkey, payload in seen.slots.items():
        try:
            slot = Slot.from_bytes(payload)
        except UntrustedInputError:
            continue
        if _means(name, hotkey, slot.announcement):
            return f"announcement {slot.announcement.hex()[:16]} of {hotkey} is on chain; no record mentions it yet"
    if name in seen.metagraph.by_hotkey():
        return f"{name} is registered and has announced nothing"
    raise ConfigurationError(
        f"nothing published or on chain has the name {name!r}; give a hotkey, or at least {MIN_PREFIX} digits of a case or announcement"
    )


def _value(seen: Situation, steps: list[Step]) -> dict[str, Any]:
    last = steps[-1]
    fallen = _demotion(seen, last)
    reason = last.outcome.reason
    known = Reason(reason) if reason in set(Reason) else None
    return {
        "case": last.case.case.hex(),
        "announcement": last.case.announcement.hex(),
        "hotkey": last.case.hotkey,
        "change": next((step.case.hypothesis.change for step in steps if step.case.hypothesis is not None), None),
        "state": last.outcome.state,
        "terminal": last.outcome.state in TERMINAL_STATES,
        "reason": reason,
        "sentence": EXPLANATIONS[known].sentence if known else "",
        "fault": EXPLANATIONS[known].fault.value if known else "",
        "next_step": next_step(reason if fallen is None else fallen.reason),
        "power": _power(seen, steps),
        "reign": _reign(seen, last),
        "rounds": [_round(step) for step in steps],
        "crown": _crown(last),
    }


def _crowned(seen: Situation, last: Step) -> Reign | None:
    """Return the reign that a crowned case began."""
    if last.outcome.state != "crowned":
        return None
    return next(one for one in seen.history.throne.lineage if (one.crowned_round, one.tree) == (last.record.round, last.case.tree))


def _demotion(seen: Situation, last: Step) -> DemotionRow | None:
    """Return how that reign ended, if it was by a demotion."""
    reign = _crowned(seen, last)
    return None if reign is None or reign.demoted_round is None else seen.entries[reign.demoted_round].signed.record.demotion


def _reign(seen: Situation, last: Step) -> str | None:
    """Say what became of a case that was crowned; None for every other."""
    reign, fallen = _crowned(seen, last), _demotion(seen, last)
    if reign is None:
        return None
    if fallen is not None:
        return f"king as {reign.tag}, demoted in round {reign.demoted_round} ({fallen.reason}): {fallen.detail}"
    since = "" if reign.published_gain_bpb is None else f", gain {reign.published_gain_bpb:+.4f} bpb in runs after the crown"
    return f"king as {reign.tag}, {reign.standing}{since}"


def _round(step: Step) -> dict[str, Any]:
    look, refusal = step.outcome.look, step.case.refusal
    return {
        "round": step.record.round,
        "stage": step.case.stage,
        "state": step.outcome.state,
        "reason": step.outcome.reason,
        "detail": step.outcome.detail,
        "gate": refusal.gate if refusal is not None else None,
        "runs": look.runs if look else None,
        "gain_bpb": look.gain_bpb if look else None,
        "standard_error_bpb": look.standard_error_bpb if look else None,
        "statistic": look.statistic if look else None,
        "threshold": look.threshold if look else None,
    }


def _crown(step: Step) -> dict[str, Any] | None:
    """Return what a crown rests on and what it seals, None where the case took none."""
    crown = step.record.crown
    if crown is None or step.outcome.state != "crowned":
        return None
    return {"tag": crown.tag, "sub_pools": crown.sub_pools, "sealed_documents": crown.sealed_documents, "sealed": crown.sealed.hex()}


def _power(seen: Situation, steps: list[Step]) -> str | None:
    """Return what more runs would do for the newest look, None where there was none."""
    last = next((step for step in reversed(steps) if step.outcome.look is not None), None)
    if last is None or last.outcome.state not in HINT_STATES:
        return None
    rules = seen.profile.rules
    looked = looked_at(last, rules)
    if looked is None:
        return None
    entry = max(1, last.outcome.look.entry if last.outcome.look else 0, last.before.entries + 1)
    more = power_hint(looked, rules.crown, entry=entry)
    effect = f"effect {looked.est:+.4f} +- {looked.standard_error_z:.4f} bpb"
    if more is None:
        return f"{effect}; no number of runs would crown an effect of this size"
    if more == 0:
        return f"{effect}; if it is real, the runs so far are enough for a proof"
    return f"{effect}; if it is real, {more} more runs would give 80 % power in the proof"


def looked_at(step: Step, rules: Rules) -> Estimate | None:
    """Return the estimate of a look again, from the Record and the state before it; None when it cannot be made."""
    stage = step.case.stage
    measurements = [item.measurement for item in step.record.measurements]
    before, _ = turn(step.before, measurements, rules, step.record.round)
    contest = next((one for one in before.contests if one.case == step.case.case), None)
    table = Table(measurements, before, rules)
    pool = [run.val_bpb for run in (*before.pool, *table.pool())]
    fresh = [] if step.case.tree is None else [run for run in table.challenger(step.case.tree, stage) if run.score is not None]
    runs = (*(contest.runs if contest is not None and contest.stage == stage else ()), *table.pairs(fresh, stage))
    if not runs or (stage == "proof" and len(pool) < MIN_POOL):
        return None
    return estimate([run.challenger for run in runs], [run.king for run in runs], pool if stage == "proof" else None, rules.crown)


def _sealed(crown: dict[str, Any]) -> str:
    pools = crown["sub_pools"]
    measured = "one sub-pool of hidden documents, and nobody has confirmed it on others" if pools == 1 else f"{pools} sub-pools that agree"
    return f"measured on {measured}; it seals {crown['sealed_documents']} further documents, opened after this king's reign"


def _lines(case: dict[str, Any]) -> Iterator[str]:
    yield f"case {case['case'][:16]} of {case['hotkey']}: {case['state']} ({case['reason']})"
    if case["change"]:
        yield f"  change: {case['change']}"
    for one in case["rounds"]:
        where = f" at the gate {one['gate']}" if one["gate"] else ""
        yield f"  round {one['round']}, {one['stage']}: {one['state']}{where}: {one['detail']}"
    if case["reign"]:
        yield f"  reign: {case['reign']}"
    yield f"  meaning: {case['sentence']} (side: {case['fault']})"
    if case["crown"]:
        yield f"  crown: {_sealed(case['crown'])}"
    if case["power"]:
        yield f"  power: {case['power']}"
    yield f"  next step: {case['next_step']}"
