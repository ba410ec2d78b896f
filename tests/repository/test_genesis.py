import pytest

from ralph.errors import ConfigurationError
from ralph.repository.genesis import CONFIG, genesis_recipe, variant


def test_a_variant_is_the_recipe_with_another_configuration() -> None:
    tree = genesis_recipe()
    strong = variant(tree, "strong")
    assert strong.files[CONFIG] == tree.files["config/strong.toml"]
    assert {path for path in tree.files if tree.files[path] != strong.files[path]} == {CONFIG}
    assert variant(tree, "base") == tree


@pytest.mark.parametrize("name", ["weak", "../model", ""])
def test_a_variant_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="only base, strong"):
        variant(genesis_recipe(), name)
