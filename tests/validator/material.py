"""A bench of a validator over small data, for tests that measure."""

from pathlib import Path
from typing import Any

from ralph.protocol.network import devnet_rules
from ralph.protocol.pool import Subset
from ralph.repository.genesis import genesis_recipe
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph.train.environment import describe
from ralph.validator.measure import Bench
from tests.evaluate import material
from tests.train.material import RUNG, VOCABULARY, small_data


def small_bench(root: Path, subset: Subset, **changes: Any) -> Bench:
    """Return a bench that scores on all public documents of the data as if they were hidden."""
    data, sandbox = small_data(root), BubblewrapSandbox()
    base = devnet_rules(genesis_tree=bytes(32), manifest=bytes(32), vocabulary=VOCABULARY, hidden=bytes(32), sources=())
    crown = base.crown.model_copy(update={"rung": RUNG.name})
    evaluation = material.rules(uniform=256, weighted=64, batch_rows=16)
    fields: dict[str, Any] = {
        "rules": base.model_copy(update={"ladder": (RUNG,), "crown": crown, "evaluation": evaluation}),
        "sandbox": sandbox,
        "data": data,
        "hidden": {subset: data.validation.rows(None, RUNG.sequence)},
        "environment": describe(sandbox, genesis_recipe(), RUNG, scratch=root),
        "executor": "validator",
        "round_index": 0,
        "beacon_two": bytes(32),
        "king_losses": {},
        "scratch": root,
        "genesis": genesis_recipe(),
    }
    return Bench(**(fields | changes))
