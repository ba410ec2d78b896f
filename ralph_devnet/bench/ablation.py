"""What each piece of the strong configuration is worth: with and without it, on the same seeds."""

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

RUNGS = ("C2", "C3")
TOGETHER = 2
"""Runs beside each other."""
NEVER_OFF = frozenset({"muon_rate", "muon_momentum", "embedding_rate", "head_rate", "learning_rate", "matrix_std", "embedding_std"})
"""Numbers of the strong configuration that are tuned together and are no piece of their own."""


def ablation(context: Context) -> list[Figure]:
    """Compare genesis, strong, and strong without each piece."""
    net = devnet(context, "ablation")
    data = open_public_data(load_config(net.config("validator")), net.profile)
    genesis = genesis_recipe()
    strong = variant(genesis, "strong")
    trees = {"genesis": genesis, **{f"strong without {piece}": tree for piece, tree in without(strong, genesis).items()}}
    figures = []
    for name in RUNGS:
        rules = net.profile.rules
        bench = Bench(sandbox=BubblewrapSandbox(), data=data, rules=rules, rung=rules.rung(name), scratch=scratch(context, "ablation-runs"))
        seeds = range(context.repeat)
        best = values(bench, strong, seeds)
        figures.append(interval(f"{name} strong", best))
        context.say(f"ablation: {name} strong: {fmean(best):.4f} bpb")
        for label, tree in trees.items():
            losses = [other - one for other, one in zip(values(bench, tree, seeds), best, strict=True)]
            figures.append(interval(f"{name} {label} less strong", losses))
            context.say(f"ablation: {name} {label}: {fmean(losses):+.4f} bpb")
    return figures


def without(strong: RecipeTree, genesis: RecipeTree) -> Mapping[str, RecipeTree]:
    """Return piece -> the strong recipe with that knob as genesis has it."""
    plain: dict[str, Scalar] = {knob.name: knob.value for knob in knobs.read(genesis)} | pieces(genesis)
    found = {}
    for knob in knobs.read(strong):
        tree = knobs.edit(strong, {knob.name: plain[knob.name]}) if knob.name in plain and knob.name not in NEVER_OFF else None
        if tree is not None and tree.digest() != strong.digest():
            found[knob.name] = tree
    return found


def pieces(recipe: RecipeTree) -> dict[str, Scalar]:
    """Return the value of every knob that a configuration may leave out."""
    return {name: table["value"] for name, table in tomllib.loads(recipe.files["pieces.toml"].decode()).items()}


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
