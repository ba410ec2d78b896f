"""Small real data, a tiny rung, and jobs over variants of the recipe."""

import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path

from ralph.data.corpora import stdlib_documents
from ralph.data.dataset import DataSet
from ralph.data.shards import open_data, prepare
from ralph.interfaces import SandboxLimits
from ralph.protocol.network import LADDER
from ralph.protocol.rules import Rung
from ralph.sandbox.limits import limits_for
from ralph.train.run import RunJob

RECIPE = Path(__file__).resolve().parents[2] / "recipe"
VOCABULARY = 300
RUNG = LADDER[0].model_copy(
    update={"name": "tiny", "sequence": 16, "tokens": 1600, "max_steps": 6, "max_parameters": 60_000, "segments": 3}
)
STEPS = 6
SEED = 7


def small_data(root: Path) -> DataSet:
    """Prepare data from one package of the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    manifest = prepare(root / "data", hidden=root / "hidden", vocabulary=VOCABULARY, documents=list(stdlib_documents(library / "email")))
    return open_data(root / "data", expect=manifest.digest())


def job(recipe: Path = RECIPE, *, seed: int = SEED, rung: Rung = RUNG, threads: int = 1, reply_timeout_s: float = 60.0) -> RunJob:
    """Return a run of ``recipe``."""
    limits: SandboxLimits = replace(limits_for(rung), threads=threads)
    return RunJob(recipe=recipe, rung=rung, seed=seed, vocabulary=VOCABULARY, limits=limits, reply_timeout_s=reply_timeout_s)


def with_knobs(target: Path, **values: object) -> Path:
    """Copy the recipe with other values of some knobs."""
    copy(target)
    config = target / "config" / "base.toml"
    lines = config.read_text(encoding="utf-8").splitlines()
    for name, value in values.items():
        lines[lines.index(f"[{name}]") + 1] = f"value = {str(value) if not isinstance(value, str) else chr(34) + value + chr(34)}"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def with_code(target: Path, code: str) -> Path:
    """Copy the recipe and append ``code`` to its train.py."""
    copy(target)
    with (target / "train.py").open("a", encoding="utf-8") as file:
        file.write(f"\n\n{code}\n")
    return target


def copy(target: Path) -> Path:
    """Copy the recipe unchanged."""
    shutil.copytree(RECIPE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target
