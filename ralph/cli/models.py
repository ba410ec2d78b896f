"""What commands that train or score a recipe on public data share: the rung and its data, the recipe, its weights, an exam."""

from pathlib import Path

from ralph.config import default_home, load_config, load_profile
from ralph.data.dataset import DataSet, Rows, open_data
from ralph.data.layout import read_manifest
from ralph.errors import ConfigurationError
from ralph.evaluate.loading import Model
from ralph.evaluate.measure import Exam
from ralph.protocol.data import DataManifest
from ralph.protocol.network import CPU_TOLERANCE, GPU_TOLERANCE, LADDER
from ralph.protocol.patch import RecipeTree
from ralph.protocol.rules import Rung
from ralph.protocol.scoring_rules import EvaluationRules
from ralph.repository.genesis import genesis_recipe
from ralph.repository.trees import read_tree
from ralph.sandbox import gpu
from ralph.sandbox.limits import limits_for
from ralph.train.host import weight_limits

BATCH_ROWS = 64
DECIMALS = 5


def open_rung(name: str, data: Path | None, config: Path | None) -> tuple[Rung, DataSet]:
    """Return the rung and the verified data. Raises ConfigurationError."""
    ladder: tuple[Rung, ...] = LADDER
    expect: bytes | None = None
    if config is not None:
        node = load_config(config)
        rules = load_profile(node.profile).rules
        ladder, expect = rules.ladder, rules.data.manifest if data is None else None
        data = data or node.data
    data = data or default_home() / "data" / "public"
    scale = next((one for one in ladder if one.name == name), None)
    if scale is None:
        raise ConfigurationError(f"there is no rung {name!r}; the ladder has {', '.join(one.name for one in ladder)}")
    gpu.require(limits_for(scale).gpus)
    return scale, open_data(data, expect=expect or read_manifest(data, DataManifest).digest())


def open_recipe(recipe: Path | None) -> RecipeTree:
    """Return the recipe in a directory, or genesis. Raises ConfigurationError."""
    if recipe is None:
        return genesis_recipe()
    if not recipe.is_dir():
        raise ConfigurationError(f"there is no recipe in {recipe}")
    return read_tree(recipe)


def open_weights(path: Path, rung: Rung) -> bytes:
    """Return a file of weights. Raises ConfigurationError where it cannot be read or is larger than any weights of the rung."""
    limit = 2 * weight_limits(rung).size_bytes
    try:
        size = path.stat().st_size
        if size > limit:
            raise ConfigurationError(f"{path} has {size} bytes, limit {limit} at rung {rung.name}")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}; `ralph train` writes weights.safetensors") from error


def public_rows(data: DataSet, documents: int, rung: Rung) -> Rows:
    """Return rows of so many public validation documents, or of all where there are fewer."""
    return data.validation.rows(min(documents, len(data.validation)), rung.sequence)


def public_exam(model: Model, rows: Rows, *, probes: int, key: bytes) -> Exam:
    """Return a measurement of a model on public rows, with so many uniform probes and no king beside it."""
    rules = EvaluationRules(
        uniform_cells=probes,
        weighted_cells=0,
        batch_rows=BATCH_ROWS,
        tolerances=(CPU_TOLERANCE, GPU_TOLERANCE),
        published_decimals=DECIMALS,
        max_cost_ratio=0.0,
    )
    return Exam(model=model, rules=rules, rows=rows, key=key, king=None)
