"""Directories of plain files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ralph.errors import ConfigurationError, InfrastructureError, UntrustedInputError
from ralph.protocol.patch import MAX_TREE_FILES, RecipeTree
from ralph.repository.trees import MAX_DIRECTORY_ENTRIES, materialise, read_tree


def test_a_materialised_tree_reads_back_as_itself(parent: RecipeTree, tmp_path: Path) -> None:
    materialise(parent, tmp_path / "deep" / "recipe")
    assert read_tree(tmp_path / "deep" / "recipe") == parent


def test_modes_do_not_depend_on_the_umask(parent: RecipeTree, tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from ralph.protocol.patch import RecipeTree;"
        "from ralph.repository.trees import materialise; os.umask(0o077);"
        "materialise(RecipeTree(files={'layers/deep/norm.py': b'x'}), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "recipe")], check=True, cwd=Path(__file__).parents[2])
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "recipe").rglob("*")}
    assert modes == {"layers": 0o755, "deep": 0o755, "norm.py": 0o644}


def test_an_executable_bit_is_not_part_of_a_tree(parent: RecipeTree, tmp_path: Path) -> None:
    materialise(parent, tmp_path / "recipe")
    (tmp_path / "recipe" / "model.py").chmod(0o755)
    assert read_tree(tmp_path / "recipe").digest() == parent.digest()


def test_hidden_names_and_compiled_files_are_passed_over(parent: RecipeTree, tmp_path: Path) -> None:
    materialise(parent, tmp_path / "recipe")
    for name in (".git/config", "__pycache__/model.cpython-311.pyc", "layers/__pycache__/x.pyc", ".DS_Store"):
        (tmp_path / "recipe" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "recipe" / name).write_bytes(b"x")
    assert read_tree(tmp_path / "recipe") == parent


@pytest.mark.parametrize("target", ["/etc/passwd", "model.py", "nowhere"])
def test_a_link_is_refused_whatever_it_points_to(parent: RecipeTree, tmp_path: Path, target: str) -> None:
    materialise(parent, tmp_path / "recipe")
    (tmp_path / "recipe" / "link.py").symlink_to(target)
    with pytest.raises(UntrustedInputError, match=r"INT-SCOPE: link\.py is a link"):
        read_tree(tmp_path / "recipe")


def test_a_linked_directory_is_refused(parent: RecipeTree, tmp_path: Path) -> None:
    materialise(parent, tmp_path / "recipe")
    (tmp_path / "recipe" / "home").symlink_to(Path.home(), target_is_directory=True)
    with pytest.raises(UntrustedInputError, match="INT-SCOPE: home is a link"):
        read_tree(tmp_path / "recipe")


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.py")
    with pytest.raises(UntrustedInputError, match=r"INT-SCOPE: data\.py is not a plain file"):
        read_tree(tmp_path)


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_bytes(bytes(101))
    with pytest.raises(UntrustedInputError, match="INT-SIZE"):
        read_tree(tmp_path, max_file_bytes=100)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    for number in range(MAX_TREE_FILES + 1):
        (tmp_path / f"f{number}.py").touch()
    with pytest.raises(UntrustedInputError, match="INT-SIZE"):
        read_tree(tmp_path)


def test_a_directory_of_very_many_ignored_entries_is_refused(tmp_path: Path) -> None:
    for number in range(MAX_DIRECTORY_ENTRIES + 1):
        (tmp_path / f".{number}").touch()
    with pytest.raises(UntrustedInputError, match="INT-SIZE"):
        read_tree(tmp_path)


def test_a_missing_directory_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        read_tree(tmp_path / "nowhere")


def test_nothing_is_written_into_a_directory_in_use(parent: RecipeTree, tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(ConfigurationError, match="not empty"):
        materialise(parent, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_directory_that_cannot_be_made_is_infrastructure(parent: RecipeTree, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError):
        materialise(parent, tmp_path / "file" / "recipe")


def test_the_shipped_recipe_is_a_tree() -> None:
    tree = read_tree(Path(__file__).parents[2] / "recipe")
    assert "train.py" in tree.files
    assert "config/base.toml" in tree.files
