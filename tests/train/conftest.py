import pytest

from ralph.data.dataset import DataSet
from ralph.sandbox.bubblewrap import BubblewrapSandbox
from tests.train import material


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return material.small_data(tmp_path_factory.mktemp("training-data"))


@pytest.fixture(scope="session")
def sandbox() -> BubblewrapSandbox:
    return BubblewrapSandbox()
