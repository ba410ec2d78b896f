"""Every attack on an evaluation that we carry out ourselves, and how it must end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ralph.protocol.reasons import Reason
from ralph_devnet.hostile import recipes

FRAUD = frozenset({Reason.FRD_CLAIM})
CRASH = frozenset({Reason.RUN_CRASH})
SHAPE = frozenset({Reason.RUN_SHAPE})
MEMORY = frozenset({Reason.RUN_OOM, Reason.RUN_CRASH})
STALL = frozenset({Reason.RUN_STALL})
NUMBER = frozenset({Reason.RUN_NAN})
HARMLESS: frozenset[Reason] = frozenset()
LEAKY = "leaky_attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """One attack."""

    title: str
    payload: str
    ends: frozenset[Reason]
    """Reason codes that it may end with; none for an attack that is scored as if it had not been made."""
    settings: Mapping[str, float] = field(default_factory=dict)
    lies: bool = False
    """Whether its claims differ from the truth and both can be read in full: then its gain over many draws is known."""

    def write(self, target: Path) -> Path:
        """Write the recipe that carries the attack."""
        return recipes.leaky_attention(target) if self.payload == LEAKY else recipes.payload(self.payload, target, self.settings)


CATALOGUE = (
    Hostile(title="look ahead everywhere", payload="look_ahead", ends=FRAUD, lies=True),
    Hostile(title="look ahead at 1 % of the places", payload="look_ahead", ends=FRAUD, settings={"SHARE": 0.01}, lies=True),
    Hostile(title="look ahead at 0.1 % of the places", payload="look_ahead", ends=FRAUD, settings={"SHARE": 0.001}, lies=True),
    Hostile(title="claim nothing for the worst 0.05 % of the losses", payload="largest_losses", ends=FRAUD, lies=True),
    Hostile(title="look ahead in claims and probes", payload="evaluation_only", ends=FRAUD, lies=True),
    Hostile(title="attention to the future", payload=LEAKY, ends=FRAUD, lies=True),
    Hostile(title="look ahead where the batch is no probe", payload="prefix_length", ends=FRAUD, lies=True),
    Hostile(title="another model behind single positions", payload="two_models", ends=FRAUD, lies=True),
    Hostile(title="compute forty times as much when scored", payload="test_time_compute", ends=HARMLESS),
    Hostile(title="predict from sibling rows", payload="sibling_rows", ends=FRAUD, lies=True),
    Hostile(title="learn from every row that is scored", payload="memory", ends=FRAUD, lies=True),
    Hostile(title="stash answers in files, shared memory, modules", payload="stash", ends=FRAUD, lies=True),
    Hostile(title="deflate the log-sum-exp", payload="deflated", ends=FRAUD, lies=True),
    Hostile(title="giant logits", payload="giant_logits", ends=FRAUD, lies=True),
    Hostile(title="constants added to the logits", payload="shifted_logits", ends=HARMLESS),
    Hostile(title="a logit that is no number", payload="not_a_number", ends=NUMBER),
    Hostile(title="infinite logits", payload="infinite_logits", ends=NUMBER),
    Hostile(title="negative claims", payload="negative_claims", ends=FRAUD, lies=True),
    Hostile(title="replace the worker's scorer", payload="scorer_replaced", ends=FRAUD, lies=True),
    Hostile(title="logits whose methods lie", payload="tensor_subclass", ends=FRAUD, lies=True),
    Hostile(title="lies that never repeat", payload="random_lies", ends=frozenset({Reason.OPS_NUMERIC}), lies=True),
    Hostile(title="answer before being asked", payload="forged_frame", ends=SHAPE),
    Hostile(title="answer twice", payload="two_answers", ends=FRAUD),
    Hostile(title="claims of another shape", payload="wrong_shape", ends=SHAPE),
    Hostile(title="write hidden text into digits of claims that matter on average", payload="exfiltrate_claims", ends=FRAUD, lies=True),
    Hostile(
        title="write hidden text into the last digits of claims",
        payload="exfiltrate_claims",
        ends=HARMLESS,
        settings={"STEP_NATS": 1e-9},
        lies=True,
    ),
    Hostile(title="write hidden text into times", payload="exfiltrate_timing", ends=HARMLESS),
    Hostile(title="print hidden text", payload="exfiltrate_output", ends=HARMLESS),
    Hostile(title="send hidden text over sockets, files, programs", payload="call_home", ends=HARMLESS),
    Hostile(title="look for keys and other processes", payload="look_around", ends=HARMLESS),
    Hostile(title="fork bomb", payload="fork_bomb", ends=STALL | MEMORY),
    Hostile(title="daemons that ignore signals", payload="daemons", ends=HARMLESS),
    Hostile(title="memory bomb", payload="memory_bomb", ends=MEMORY),
    Hostile(title="memory that grows with every row", payload="hidden_growth", ends=MEMORY),
    Hostile(title="disk bomb", payload="disk_bomb", ends=HARMLESS),
    Hostile(title="output bomb", payload="output_bomb", ends=STALL),
    Hostile(title="flood of the channel", payload="channel_flood", ends=SHAPE),
    Hostile(title="slow drip", payload="slow_drip", ends=STALL | SHAPE),
    Hostile(title="never answer", payload="never_answers", ends=STALL),
    Hostile(title="end in the middle", payload="quits", ends=CRASH),
    Hostile(title="kill everything within reach", payload="kill_everything", ends=CRASH),
)
