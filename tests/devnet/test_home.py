"""The directory of a demo: nobody else's files are touched, an earlier demo's are."""

from pathlib import Path

import pytest

from ralph.errors import ConfigurationError
from ralph_devnet.home import MARK, Home


def test_a_directory_with_somebody_elses_files_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match="holds files that are not a demo's"), Home.claim(tmp_path):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    with pytest.raises(ConfigurationError, match="is no directory"), Home.claim(tmp_path / "home"):
        pass


def test_an_earlier_demo_is_wiped_but_for_its_data(tmp_path: Path) -> None:
    with Home.claim(tmp_path / "home") as home:
        (home.path / "chain.sqlite").write_text("x")
        (home.path / "store").mkdir()
        (home.path / "data" / "public").mkdir(parents=True)
    with Home.claim(tmp_path / "home") as home:
        assert sorted(entry.name for entry in home.path.iterdir()) == [MARK, "data"]
        assert (home.path / "data" / "public").is_dir()


def test_wiping_does_not_follow_links(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    with Home.claim(tmp_path / "home") as home:
        (home.path / "link").symlink_to(precious)
    with Home.claim(tmp_path / "home") as home:
        assert not (home.path / "link").exists()
    assert (precious / "file").is_file()


def test_two_demos_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        Home.claim(tmp_path / "home"),
        pytest.raises(ConfigurationError, match="another demo runs in"),
        Home.claim(tmp_path / "home"),
    ):
        pass


def test_the_directory_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with Home.claim(tmp_path / "home") as home:
            assert home.path.is_absolute()
