"""Scores without probes: only a tree whose code the Rules name as reviewed may have one."""

from ralph.auditor.report import Check, Findings
from ralph.errors import StoreUnavailable, UntrustedInputError
from ralph.evaluate.reviewed import code_digest
from ralph.interfaces import BundleStore
from ralph.protocol.record import Record
from ralph.protocol.rules import Rules
from ralph.repository.stored import load_tree


def check_exact(record: Record, store: BundleStore, rules: Rules, found: Findings) -> None:
    """Check every tree of a round that was scored without probes: an operator could spare a friend the audit of his claims."""
    spared = {
        item.measurement.tree for item in record.measurements if item.measurement.score is not None and not item.measurement.score.cells
    }
    for name in sorted(spared):
        subject = f"round {record.round}"
        try:
            tree = load_tree(store, name, max_file_bytes=rules.patch.max_file_bytes)
        except (StoreUnavailable, UntrustedInputError) as error:
            found.unknown(
                Check.MEASUREMENT, subject, f"tree {name.hex()[:16]} was scored without probes and cannot be read: {error.detail}"
            )
            continue
        reviewed = code_digest(tree) in rules.evaluation.reviewed
        detail = f"tree {name.hex()[:16]} was scored without probes, and its code is not reviewed"
        found.expect(Check.MEASUREMENT, subject, reviewed, detail)
