"""Find the genesis recipe: beside the package in a checkout, inside it in a wheel."""

from pathlib import Path

from ralph.errors import ConfigurationError
from ralph.protocol.patch import RecipeTree
from ralph.repository.trees import read_tree

_PACKAGE = Path(__file__).resolve().parents[1]
PLACES = (_PACKAGE / "_recipe", _PACKAGE.parent / "recipe")


CONFIG = "config/base.toml"


def genesis_recipe() -> RecipeTree:
    """Return the recipe that this release carries. Raises ConfigurationError when the installation has none."""
    for place in PLACES:
        if (place / "config" / "base.toml").is_file():
            return read_tree(place)
    raise ConfigurationError(f"this installation carries no recipe; looked in {', '.join(map(str, PLACES))}")


def variant(tree: RecipeTree, name: str) -> RecipeTree:
    """Return the recipe with the configuration ``config/NAME.toml`` in the place of its own. Raises ConfigurationError."""
    wanted = f"config/{name}.toml"
    if wanted not in tree.files:
        there = sorted(Path(path).stem for path in tree.files if path.startswith("config/") and path.endswith(".toml"))
        raise ConfigurationError(f"the recipe has no configuration {name!r}, only {', '.join(there) or 'none'}")
    return RecipeTree(files={**tree.files, CONFIG: tree.files[wanted]})
