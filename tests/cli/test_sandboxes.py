"""Which launcher a configuration chooses. Nothing here starts a sandbox."""

from pathlib import Path

import pytest

from ralph.cli import sandboxes
from ralph.cli.sandboxes import open_sandbox
from ralph.config import Config, Launcher, load_config
from ralph.errors import ConfigurationError
from ralph.sandbox.container import Image

DIGEST = "sha256:" + "0" * 64
NODE = """
state = "state"
profile = "profile.toml"
chain = "chain.sqlite"
store = "store"
data = "data"
{first}

[keys]
wallets = "wallets"
coldkey = "cold"
hotkey = "hot"
{last}
"""
IMAGE = f"""
[image]
reference = "localhost/ralph/worker@{DIGEST}"
python = "/usr/bin/python3"
packages = ["/usr/lib/python3"]
"""


def node(folder: Path, *, first: str = "", last: str = "") -> Config:
    file = folder / "node.toml"
    file.write_text(NODE.format(first=first, last=last))
    return load_config(file)


class Chosen:
    """Stands for the container launcher, which needs podman to be made."""

    def __init__(self, *, image: Image | None, in_memory: bool) -> None:
        self.image, self.in_memory = image, in_memory


@pytest.fixture(autouse=True)
def no_podman(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes, "ContainerSandbox", Chosen)


def test_bubblewrap_is_the_default(tmp_path: Path) -> None:
    assert open_sandbox(node(tmp_path)).name == open_sandbox(None).name == "bubblewrap"


def test_the_configuration_chooses_podman_and_its_image(tmp_path: Path) -> None:
    chosen = open_sandbox(node(tmp_path, first='sandbox = "podman"'))
    assert (chosen.image, chosen.in_memory) == (None, False)
    assert open_sandbox(node(tmp_path, first='sandbox = "podman"'), in_memory=True).in_memory
    image = open_sandbox(node(tmp_path, first='sandbox = "podman"', last=IMAGE)).image
    assert image == Image(
        reference=f"localhost/ralph/worker@{DIGEST}", python=Path("/usr/bin/python3"), packages=(Path("/usr/lib/python3"),)
    )


def test_a_named_launcher_goes_before_the_configurations(tmp_path: Path) -> None:
    assert isinstance(open_sandbox(node(tmp_path), launcher=Launcher.PODMAN), Chosen)
    assert open_sandbox(node(tmp_path, first='sandbox = "podman"'), launcher=Launcher.BUBBLEWRAP).name == "bubblewrap"


def test_an_unknown_launcher_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"sandbox: Input should be 'bubblewrap' or 'podman'"):
        node(tmp_path, first='sandbox = "docker"')


def test_an_image_without_podman_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="only podman runs an image"):
        open_sandbox(node(tmp_path, last=IMAGE))


def test_an_image_by_its_tag_refuses_to_start(tmp_path: Path) -> None:
    config = node(tmp_path, first='sandbox = "podman"', last=IMAGE.replace(f"@{DIGEST}", ":latest"))
    with pytest.raises(ConfigurationError, match="not named by its digest"):
        open_sandbox(config)
