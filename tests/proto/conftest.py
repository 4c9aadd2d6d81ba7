from pathlib import Path

import pytest


@pytest.fixture
def models():
    """The folder of published models, which is not part of the project."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "models"
    if not folder.is_dir():
        pytest.skip("no ../shared/models here")
    return folder
