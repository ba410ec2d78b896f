"""What each piece of the recipe is worth: the strong configuration without it, or with it, on the same seeds.

A piece is in on the first rung where the 95 % interval over seeds says that it wins; any other is tried on the next rung as well.
With some thirty pieces one or two intervals exclude zero by chance.
"""

import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import fmean, stdev

from scipy.stats import t as student

from ralph.agent import knobs
from ralph.agent.bench import Bench
from ralph.agent.knobs import Scalar
from ralph.cli.nodes import open_public_data
from ralph.config import load_config
from ralph.errors import InfrastructureError
from ralph.protocol.patch import RecipeTree
from ralph.repository.genesis import genesis_recipe, variant
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import devnet, scratch

RUNGS: Mapping[str, int] = {"C1": 4, "C2": 1, "C3": 1}
"""Rung -> seeds for each repetition: where runs are cheap there are more of them."""
TOGETHER = 2
"""Runs beside each other."""
Knobs = Mapping[str, Scalar]

WITHOUT: Mapping[str, Sequence[str]] = {
    "rotary positions": ["position"],
    "Muon": ["optimizer"],
    "zero initial values": ["zero_init"],
    "value embedding": ["value_embedding"],
    "windows": ["window_pattern", "window_warmup"],
    "window pattern": ["window_pattern"],
    "window warm-up": ["window_warmup"],
    "short rows first": ["early_tokens", "early_sequence"],
    "squared ReLU": ["activation"],
    "half batch": ["batch_rows"],
    "warmdown": ["warmdown", "warmdown_floor"],
    "warmdown floor": ["warmdown_floor"],
    "rates of embedding and head": ["embedding_rate", "head_rate"],
}
"""Piece of the strong configuration -> its knobs, which are put back to what genesis has."""
WITH: Mapping[str, Knobs] = {
    "QK norm": {"qk_norm": "on"},
    "QK norm with gain": {"qk_norm": "on", "qk_gain": 3.0},
    "batch schedule": {"batch_rows": 16, "early_tokens": 0.5, "early_batch": 0.5},
    "more documentation": {"mixture_code": 0.7, "mixture_docs": 0.3},
    "soft cap": {"soft_cap": 15},
    "lambdas": {"lambdas": "on", "others_rate": 0.03},
    "Polar Express": {"orthogonaliser": "polar"},
    "weight decay": {"weight_decay": 0.1},
    "cautious weight decay": {"weight_decay": 0.1, "cautious_decay": "on"},
    "weight decay of matrices only": {"weight_decay": 0.1, "embedding_decay": 0.0, "head_decay": 0.0},
    "best-fit packing": {"packing": "best_fit"},
    "bfloat16": {"precision": "bf16"},
    "fused loss": {"fused_loss": "on"},
}
"""Piece that the strong configuration leaves out -> knobs that switch it on."""
REFINES: Mapping[str, str] = {
    "QK norm with gain": "QK norm",
    "cautious weight decay": "weight decay",
    "weight decay of matrices only": "weight decay",
}
"""Piece -> the one that it changes: it is compared with that one, which comes before it."""


def ablation(context: Context) -> list[Figure]:
    """Compare genesis, strong, strong without each of its pieces, and strong with each of the others."""
    net = devnet(context, "ablation")
    data = open_public_data(load_config(net.config("validator")), net.profile)
    genesis = genesis_recipe()
    strong = variant(genesis, "strong")
    trees = {"strong": strong, "genesis": genesis, **trials(strong, genesis)}
    figures, undecided = [], [label for label in trees if label != "strong"]
    for name, times in RUNGS.items():
        rules, seeds = net.profile.rules, range(times * context.repeat)
        bench = Bench(sandbox=BubblewrapSandbox(), data=data, rules=rules, rung=rules.rung(name), scratch=scratch(context, "ablation-runs"))
        found = {"strong": values(bench, strong, seeds)}
        figures.append(interval(f"{name} strong", found["strong"]))
        context.say(f"ablation: {name} strong: {figures[-1].median:.4f} bpb")
        for label in list(undecided):
            base = base_of(label)
            for one in (label, base):
                if one not in found:
                    found[one] = values(bench, trees[one], seeds)
            less = interval(f"{name} {label} less {base}", [a - b for a, b in zip(found[label], found[base], strict=True)])
            context.say(f"ablation: {less.name}: {less.median:+.4f} bpb ({less.low:+.4f} to {less.high:+.4f})")
            figures.append(less)
            if less.low > 0 if label.startswith("without ") else less.high < 0:
                undecided.remove(label)
    return figures


def base_of(label: str) -> str:
    """Return what a trial is compared with."""
    piece = REFINES.get(label.removeprefix("with "))
    return f"with {piece}" if piece else "strong"


def trials(strong: RecipeTree, genesis: RecipeTree) -> dict[str, RecipeTree]:
    """Return label -> the strong recipe with something switched off or on."""
    pieces = {name: table["value"] for name, table in tomllib.loads(genesis.files["pieces.toml"].decode()).items()}
    plain: dict[str, Scalar] = pieces | {knob.name: knob.value for knob in knobs.read(genesis)}
    off = {f"without {piece}": changed(strong, {name: plain[name] for name in names}) for piece, names in WITHOUT.items()}
    on = {f"with {piece}": changed(strong, values) for piece, values in WITH.items()}
    return off | on


def changed(tree: RecipeTree, values: Knobs) -> RecipeTree:
    """Return the recipe with other values of knobs, also of those that its configuration leaves out."""
    declared = {knob.name for knob in knobs.read(tree)}
    added = "".join(f"\n[{name}]\nvalue = {knobs.literal(value)}\n" for name, value in values.items() if name not in declared)
    edited = knobs.edit(tree, {name: value for name, value in values.items() if name in declared})
    if edited is None:
        raise InfrastructureError(f"the configuration cannot be edited: {dict(values)}")
    return RecipeTree(files={**edited.files, knobs.PATH: edited.files[knobs.PATH] + added.encode()})


def values(bench: Bench, tree: RecipeTree, seeds: Sequence[int]) -> list[float]:
    """Return val_bpb on public documents for every seed."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        runs = list(pool.map(lambda seed: bench.run(tree, seed), seeds))
    for run in runs:
        if run.val_bpb is None:
            raise InfrastructureError(f"a run of the ablation failed: {run.failure}")
    return [run.val_bpb for run in runs if run.val_bpb is not None]


def interval(name: str, found: Sequence[float]) -> Figure:
    """Return the mean with its 95 % interval over seeds."""
    mean = fmean(found)
    half = float(student.ppf(0.975, len(found) - 1)) * stdev(found) / len(found) ** 0.5 if len(found) > 1 else float("inf")
    return Figure(name=name, unit="bpb", median=mean, low=mean - half, high=mean + half, repetitions=len(found), goal="95 % interval")
