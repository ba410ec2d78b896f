"""The tree of an earlier king back on the main line: one commit, one tag, also when it is killed or asked for twice."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ralph.errors import CorruptStateError
from ralph.protocol.patch import RecipeTree
from ralph.repository.git import RecipeRepository
from ralph.repository.lineage import CrownFacts, RestorationFacts, restored_tag
from tests.repository.test_git import TINY, TINY_CHILD, child, deadly, facts, git, killed, references, repository

__all__ = ["child", "deadly", "facts", "repository"]


def restoration(demoted: RecipeTree, restored: RecipeTree, **changed: object) -> RestorationFacts:
    made = RestorationFacts(
        round=9, demoted=demoted.digest(), restored=restored.digest(), reason="STA-ROLLBACK", record=b"d" * 32, when=1_700_000_100
    )
    return replace(made, **changed)  # type: ignore[arg-type]


@pytest.fixture
def crowned(repository: RecipeRepository, child: RecipeTree, facts: CrownFacts) -> RecipeRepository:
    repository.crown(child, facts)
    return repository


def test_a_restoration_is_a_commit_on_the_main_line_whose_tree_is_the_earlier_kings(
    crowned: RecipeRepository, parent: RecipeTree, child: RecipeTree
) -> None:
    before = crowned.head()
    assert crowned.restore(restoration(child, parent)) == "recipe-v1.1.1"
    head = crowned.head()
    assert (head.tag, head.tree, head.parent_commit, head.author) == ("recipe-v1.1.1", parent.digest(), before.commit, "validator")
    assert head.facts == restoration(child, parent)
    assert crowned.tree("recipe-v1.1.1") == parent
    assert crowned.tree("recipe-v1.1.0") == child
    assert git(crowned.path, "diff", "--stat", "recipe-v1.0.0", "recipe-v1.1.1") == ""
    assert "| Reason | STA-ROLLBACK |" in crowned.notes("recipe-v1.1.1")
    assert "Reason: STA-ROLLBACK" in git(crowned.path, "log", "-1", "--format=%(trailers:unfold)")
    assert git(crowned.path, "fsck", "--strict", "--full") == ""


def test_the_next_crown_is_made_on_the_restored_king_and_gets_the_next_number(
    crowned: RecipeRepository, parent: RecipeTree, child: RecipeTree, facts: CrownFacts
) -> None:
    crowned.restore(restoration(child, parent))
    other = RecipeTree(files={**parent.files, "layers/new.py": b"x = 2\n"})
    with pytest.raises(CorruptStateError, match="judged against"):
        crowned.crown(other, replace(facts, announcement=b"z" * 32, parent=child.digest()))
    assert crowned.crown(other, replace(facts, announcement=b"z" * 32)) == "recipe-v1.2.0"
    assert [one.tag for one in crowned.lineage()] == ["recipe-v1.0.0", "recipe-v1.1.0", "recipe-v1.1.1", "recipe-v1.2.0"]


def test_restoring_again_changes_nothing_and_with_other_facts_is_refused(
    crowned: RecipeRepository, parent: RecipeTree, child: RecipeTree
) -> None:
    crowned.restore(restoration(child, parent))
    before = references(crowned.path)
    assert crowned.restore(restoration(child, parent)) == "recipe-v1.1.1"
    with pytest.raises(CorruptStateError, match="with other facts"):
        crowned.restore(restoration(child, parent, reason="RUN-KING"))
    assert references(crowned.path) == before


def test_only_the_king_is_demoted_and_only_a_former_king_is_restored(
    crowned: RecipeRepository, parent: RecipeTree, child: RecipeTree
) -> None:
    before, stranger = references(crowned.path), RecipeTree(files={**parent.files, "layers/new.py": b"x = 3\n"})
    for demoted, restored in ((parent, parent), (stranger, parent), (child, stranger)):
        with pytest.raises(CorruptStateError, match="was never king"):
            crowned.restore(restoration(demoted, restored))
    assert references(crowned.path) == before


def test_two_validators_make_the_same_restoration(parent: RecipeTree, child: RecipeTree, facts: CrownFacts, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        repository = RecipeRepository.create(path, parent)
        repository.crown(child, facts)
        repository.restore(restoration(child, parent))
    assert references(paths[0]) == references(paths[1])


def test_a_restoration_killed_at_any_git_call_is_finished_by_the_next_one(facts: CrownFacts, tmp_path: Path, deadly: Path) -> None:
    repository = RecipeRepository.create(tmp_path / "recipe.git", TINY)
    repository.crown(TINY_CHILD, replace(facts, parent=TINY.digest()))
    fresh, back = shutil.copytree(repository.path, tmp_path / "fresh"), restoration(TINY_CHILD, TINY)
    repository.restore(back)
    complete = references(repository.path)
    for calls in itertools.count():
        path = shutil.copytree(fresh, tmp_path / f"killed-{calls}")
        was_killed = killed(deadly, calls, lambda path=path: RecipeRepository(path).restore(back))
        assert RecipeRepository.open(path).restore(back) == "recipe-v1.1.1"
        assert references(path) == complete
        if not was_killed:
            break
    assert calls > 10


def test_restorations_count_by_number() -> None:
    assert restored_tag("recipe-v1.4.9") == "recipe-v1.4.10"


@pytest.mark.parametrize("wrong", [{"record": b"d"}, {"reason": "x\nRecord: 1"}, {"when": -1}, {"round": -1}])
def test_restoration_facts_that_cannot_be_written_are_refused(parent: RecipeTree, child: RecipeTree, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        restoration(child, parent, **wrong)
