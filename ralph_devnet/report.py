"""The page of a demo: one self-contained HTML file with the lineage, light and dark, without scripts.

Everything that somebody else wrote (hypotheses, details of refusals, patches) passes through one function
that escapes it, and the page forbids itself to load or run anything.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ralph.errors import StoreUnavailable, UntrustedInputError
from ralph.interfaces import BundleStore
from ralph_devnet import plot
from ralph_devnet.facts import CastFact, KingFact, SubmissionFact
from ralph_devnet.outcome import Outcome, Paths
from ralph_devnet.words import STATES, audit_command, duration, gain, level, safe, sentence

PAGE, PLOT = "index.html", "lineage.png"
LABEL = "The lineage of kings with their challengers by round, who was refused, and the private experiments"
MAX_DIFF_BYTES = 65_536
MAX_DIFF_LINES = 200
CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
STYLE = """
:root{color-scheme:light dark;--paper:#fff;--card:#f6f8fa;--ink:#1b1f24;--muted:#59636e;--grid:#d8dee4;--king:#8250df;--better:#1a7f37;
--dropped:#9a6700;--refused:#cf222e;--first:#0969da;--second:#bf5b04}
@media (prefers-color-scheme:dark){:root{--paper:#0d1117;--card:#161b22;--ink:#e6edf3;--muted:#9198a1;--grid:#30363d;--king:#b78cff;
--better:#3fb950;--dropped:#d9a51f;--refused:#ff7b72;--first:#58a6ff;--second:#f0883e}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:64rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;margin:.2rem 0}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}
p{margin:.4rem 0;max-width:46rem}.muted{color:var(--muted)}
figure{margin:1rem 0;overflow-x:auto}figure svg{width:100%;min-width:38rem;height:auto}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;color:var(--muted);padding:.2rem 0}
th,td{text-align:left;vertical-align:top;padding:.35rem .7rem .35rem 0;border-bottom:1px solid var(--grid)}
th{color:var(--muted);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td:first-child,th:first-child{white-space:nowrap}td.t{min-width:11rem}
.good{color:var(--better)}.bad{color:var(--refused)}.drop{color:var(--dropped)}.crown{color:var(--better);font-weight:600}
.verdict{border-left:.3rem solid var(--better);background:var(--card);padding:.6rem 1rem;margin:1rem 0}
.verdict.no{border-color:var(--refused)}
pre{background:var(--card);padding:.7rem;overflow-x:auto;font-size:.8rem;line-height:1.4}code{font-size:.85em;white-space:nowrap}
details{margin:.4rem 0}summary{cursor:pointer}
@media (max-width:40rem){body{font-size:15px}main{padding:1rem .7rem}}
"""
CLASSES = {"rejected": "bad", "absent": "bad", "dropped": "drop", "crowned": "crown"}


def write_report(outcome: Outcome, *, store: BundleStore, directory: Path) -> Paths:
    """Write the page and the plot; return the outcome's paths with them added."""
    directory.mkdir(parents=True, exist_ok=True)
    plot.png(outcome, directory / PLOT)
    picture = plot.svg(outcome, label=LABEL)
    (directory / PAGE).write_text(page(outcome, picture=picture, diffs=_diffs(outcome, store)), encoding="utf-8")
    return replace(outcome.paths, page=directory / PAGE, plot=directory / PLOT)


def page(outcome: Outcome, *, picture: str, diffs: Mapping[bytes, str]) -> str:
    """Return the page.

    Args:
        outcome: What happened.
        picture: The lineage as an SVG element of ours.
        diffs: Tree digest of a king -> unified diff from the king before.
    """
    body = "\n".join(
        (
            _summary(outcome),
            f"<figure>{picture}</figure>",
            _kings(outcome.kings, diffs),
            _cast(outcome.cast) if outcome.cast else "",
            _rounds(outcome),
            _experiments(outcome),
            _weights(outcome),
            _audit(outcome),
            _conditions(outcome),
        )
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f'<meta http-equiv="Content-Security-Policy" content="{CSP}">'
        f"<title>Ralph demo, seed {outcome.seed}</title><style>{STYLE}</style></head><body><main>\n{body}\n</main></body></html>\n"
    )


def e(text: object, limit: int = 500) -> str:
    """Return text as harmless HTML: no markup, no control characters, no changes of direction."""
    return html.escape(safe(str(text), limit), quote=True)


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already. A head that ends in ``#`` is of numbers, in ``*`` of long text."""
    classes = [" class='n'" if head.endswith("#") else " class='t'" if head.endswith("*") else "" for head in heads]
    opening = "".join(f"<th scope='col'{kind}>{e(head.rstrip('#*'))}</th>" for head, kind in zip(heads, classes, strict=True))
    lines = ["".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, classes, strict=True)) for row in rows]
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f"<div class='wide'><table><caption>{e(caption)}</caption><thead><tr>{opening}</tr></thead><tbody>\n{body}</tbody></table></div>"


def _said(row: SubmissionFact) -> str:
    return f"{_state(row.state, STATES[row.state])}, <code>{e(row.reason)}</code>"


def _state(state: str, text: str) -> str:
    return f"<span class='{CLASSES.get(state, 'muted')}'>{e(text)}</span>"


def _summary(outcome: Outcome) -> str:
    failed = [claim for claim in outcome.claims if not claim.holds]
    headline = "Everything that this demo must show was shown." if outcome.holds else "Not everything that this demo must show was shown."
    stopped = f"<p class='bad'>{e(outcome.stopped_because, 1000)}</p>" if outcome.stopped_because else ""
    rows = [
        (f"<span class='{'good' if claim.holds else 'bad'}'>{'yes' if claim.holds else 'no'}</span>", e(claim.name), e(claim.detail))
        for claim in outcome.claims
    ]
    took = duration(sum(stage.seconds for stage in outcome.stages))
    return (
        f"<h1>Ralph demo</h1><p class='muted'>Seed {outcome.seed}, {outcome.rounds} rounds, {took} minutes, "
        f"{len(outcome.tries)} ideas tried by the honest miners.</p>"
        f"<div class='verdict{'' if outcome.holds else ' no'}'><strong>{headline}</strong>{stopped}</div>"
        + (f"<p>{len(failed)} of {len(outcome.claims)} did not hold.</p>" if failed else "")
        + table("What a demo must show, and what was seen", ("holds", "claim", "seen"), rows)
    )


def _kings(kings: Sequence[KingFact], diffs: Mapping[bytes, str]) -> str:
    rows = []
    for king in reversed(kings):
        runs = "" if king.level is None else f"{king.level.runs}{' proof' if king.level_of == 'proof' else ''}"
        diff = f"<details><summary>patch</summary><pre>{_lines(diffs[king.tree])}</pre></details>" if king.tree in diffs else ""
        rows.append(
            (
                f"<strong>{e(king.title)}</strong>",
                f"{e(king.name)}<br><code class='muted' title='{e(king.hotkey)}'>{e(king.hotkey, 12)}</code>"
                if king.hotkey
                else e(king.name),
                e(level(king.level.mean, king.level.sd)) if king.level else "<span class='muted'>not measured yet</span>",
                e(runs),
                e(gain(king.gain_bpb, king.standard_error_bpb)),
                e(king.proof_runs or ""),
                e(king.change) + diff,
            )
        )
    heads = ("recipe", "by", "val_bpb ± sd#", "runs#", "gain ± standard error#", "proof runs#", "what changed*")
    note = "val_bpb over all validator runs of each reign; where there are none yet, over the proof runs that crowned the king"
    return "<h2>Kings</h2>" + table(note, heads, rows)


def _cast(cast: Sequence[CastFact]) -> str:
    rows = [
        (
            e(fact.role.name),
            e(fact.role.description),
            e(fact.role.expected.value if fact.role.expected else "not to be refused"),
            "<span class='muted'>no final row</span>"
            if fact.row is None
            else f"{_said(fact.row)}<br><span class='muted'>{e(fact.row.detail)}</span>",
            "" if fact.twin_row is None else f"{e(fact.twin_name or '')}: {_said(fact.twin_row)}",
        )
        for fact in cast
    ]
    heads = ("who", "what he tries*", "must be", "signed record says*", "honest twin")
    return "<h2>Cheats and their honest twins</h2>" + table("Read from the signed records, not from anybody's log", heads, rows)


def _rounds(outcome: Outcome) -> str:
    rows = [
        (
            e(row.round),
            e(row.name),
            e(row.stage),
            _state(row.state, STATES[row.state]),
            e(level(row.level.mean, row.level.sd)) if row.level else "",
            e(gain(row.gain_bpb, row.standard_error_bpb)),
            f"{e(sentence(row.reason))} <code>{e(row.reason)}</code><br><span class='muted'>{e(row.detail)}</span>",
        )
        for row in outcome.submissions
    ]
    heads = ("round", "who", "stage", "state", "val_bpb ± sd#", "gain ± standard error#", "why*")
    return (
        f"<h2>Submissions</h2><details open><summary>{len(rows)} rows</summary>"
        + table("Every row of every record", heads, rows)
        + "</details>"
    )


def _experiments(outcome: Outcome) -> str:
    rows = [
        (
            e(one.miner),
            e(one.number),
            e(one.kind),
            f"<span class='{'good' if one.kept else 'muted'}'>{e(one.decision)}</span>",
            e(gain(one.gain_bpb, one.standard_error_bpb)),
            e(one.runs),
            e(one.change),
            f"<span class='muted'>{e(one.reason)}</span>",
        )
        for one in outcome.experiments
    ]
    heads = ("miner", "number#", "kind", "decision", "gain ± standard error#", "runs#", "what was tried*", "why*")
    intro = "Everything that the honest miners tried in private, wins and failures alike, from their own ledgers."
    return (
        f"<h2>Private research</h2><p class='muted'>{intro}</p><details><summary>{len(rows)} experiments</summary>"
        + table("On seeds of their own", heads, rows)
        + "</details>"
    )


def _weights(outcome: Outcome) -> str:
    total = sum(outcome.weights.on_chain.values())
    names = list(dict.fromkeys([*outcome.weights.due, *outcome.weights.on_chain]))
    rows = [
        (
            e(name),
            e(outcome.weights.due.get(name, "")),
            e(outcome.weights.on_chain.get(name, "")),
            f"{outcome.weights.on_chain[name] / total:.1%}" if outcome.weights.on_chain.get(name) else "",
        )
        for name in names
    ]
    return "<h2>Who is paid</h2>" + table("Weights, of 65535", ("who", "from the records#", "on chain#", "share on chain#"), rows)


def _audit(outcome: Outcome) -> str:
    audit = outcome.audit
    if audit is None:
        return "<h2>Audit</h2><p class='muted'>Was not run.</p>"
    said = "A separate process without any key read everything from chain and store and recomputed it"
    rows = [(e(name), e(number)) for name, number in audit.checks.items()]
    missing = [(e(one.get("level", "")), e(one.get("what", "")), e(one.get("why", ""))) for one in audit.not_checked]
    return (
        f"<h2>Audit</h2><p>{said}: <strong>{e(audit.verdict)}</strong>.</p>"
        f"<p class='muted'>Do it yourself:</p><pre>{e(audit_command(outcome.paths.home))}</pre>"
        + (
            f"<details><summary>{sum(audit.checks.values())} checks</summary>{table('By subject', ('what', 'checks#'), rows)}</details>"
            if rows
            else ""
        )
        + (table("What this audit did not look at", ("level", "what*", "why*"), missing) if missing else "")
    )


def _conditions(outcome: Outcome) -> str:
    where = outcome.machine.environment
    facts = [(e(name.replace("_", " ")), e(value)) for name, value in where.model_dump().items()]
    facts.append(("cores", e(outcome.machine.cores)))
    stages = [(e(stage.name), e(f"{stage.seconds:.1f}")) for stage in outcome.stages]
    return (
        "<h2>Machine</h2>"
        + table("What the numbers depend on", ("what", "value"), facts)
        + "<details><summary>How long each part took</summary>"
        + table("Seconds on the wall", ("part", "seconds#"), stages)
        + "</details>"
    )


def _lines(diff: str) -> str:
    """Return a diff line by line, each made harmless."""
    lines = diff.splitlines()
    shown = [html.escape("".join(c if c.isprintable() or c == "\t" else "·" for c in line[:400])) for line in lines[:MAX_DIFF_LINES]]
    rest = len(lines) - len(shown)
    return "\n".join([*shown, *([f"({rest} more lines)"] if rest else [])])


def _diffs(outcome: Outcome, store: BundleStore) -> dict[bytes, str]:
    """Fetch the crowned patches; one that cannot be fetched is left out."""
    found: dict[bytes, str] = {}
    for king in outcome.kings:
        if king.patch is None:
            continue
        try:
            found[king.tree] = store.get(king.patch, limit=MAX_DIFF_BYTES).decode("utf-8", "replace")
        except (StoreUnavailable, UntrustedInputError):
            continue
    return found
