from pathlib import Path

import pytest

from tests.flow.world import prepare_data


@pytest.fixture(scope="session")
def flow_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_data(tmp_path_factory.mktemp("flow-data"))
