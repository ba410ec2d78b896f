"""Does one configuration mean the same on every rung? Where the best learning rate lies, by the recipe's rules of scale."""

from math import log2
from statistics import fmean

from ralph.agent import knobs
from ralph.agent.bench import Bench
from ralph.cli.nodes import open_public_data
from ralph.config import load_config
from ralph.repository.genesis import genesis_recipe
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from ralph_devnet.bench.ablation import changed, interval, values
from ralph_devnet.bench.registry import Context, Figure
from ralph_devnet.bench.world import devnet, scratch

RUNGS = ("C1", "C2", "C3")
FACTORS = (2, 4, 8)


def scales(context: Context) -> list[Figure]:
    """Train genesis with multiples of its learning rate; a parabola through the means says which would be best."""
    net = devnet(context, "scales")
    data = open_public_data(load_config(net.config("validator")), net.profile)
    genesis = genesis_recipe()
    rate = next(float(knob.value) for knob in knobs.read(genesis) if knob.name == "learning_rate")
    figures = []
    for name in RUNGS:
        rules = net.profile.rules
        bench = Bench(sandbox=BubblewrapSandbox(), data=data, rules=rules, rung=rules.rung(name), scratch=scratch(context, "scales-runs"))
        means = []
        for factor in FACTORS:
            found = values(bench, changed(genesis, {"learning_rate": factor * rate}), range(context.repeat))
            means.append(fmean(found))
            figures.append(interval(f"{name} learning rate x {factor}", found))
            context.say(f"scales: {name} x {factor}: {means[-1]:.4f} bpb")
        best = vertex(means)
        unit = f"log2 of the factor, tried {log2(FACTORS[0]):g} to {log2(FACTORS[-1]):g}"
        figures.append(Figure(name=f"{name} best factor", unit=unit, median=best, low=best, high=best, repetitions=context.repeat))
    return figures


def vertex(means: list[float]) -> float:
    """Return where the parabola through three values at log2(FACTORS) is lowest; the better end where it opens downwards."""
    left, middle, right = means
    first, step = log2(FACTORS[0]), log2(FACTORS[1] / FACTORS[0])
    bend = left - 2 * middle + right
    if bend <= 0:
        return first if left < right else first + 2 * step
    return first + step + step * (left - right) / (2 * bend)
