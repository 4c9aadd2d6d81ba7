"""Eight steps of each rule and policy against what Caffe 1.0 computed."""

from pathlib import Path

import numpy as np
import pytest

from breve.pycaffe import get_solver

RECORDINGS = sorted((Path(__file__).parents[1] / "golden" / "solvers").glob("*.npz"))
TOLERANCE = 2e-5  # of a parameter's movement; the recordings agree within 1e-5


def test_there_are_recordings():
    assert len(RECORDINGS) == 12


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_steps_agree_with_caffe(path, tmp_path):
    recorded = np.load(path)
    (tmp_path / "net.prototxt").write_text(str(recorded["net"]))
    (tmp_path / "solver.prototxt").write_text(f'net: "net.prototxt" {recorded["solver"]}\n')
    solver = get_solver(str(tmp_path / "solver.prototxt"))
    for name in ("x", "t"):
        solver.net.blobs[name].data[...] = recorded[f"in_{name}"]
    parameters = {(name, i): blob for name, blobs in solver.net.params.items() for i, blob in enumerate(blobs)}
    for (name, i), blob in parameters.items():
        blob.data[...] = recorded[f"param_{name}_{i}"]
    for step in range(1, 9):
        solver.step(1)
        for (name, i), blob in parameters.items():
            expected = recorded[f"step{step}_{name}_{i}"]
            moved = max(np.abs(expected - recorded[f"param_{name}_{i}"]).max(), 1e-3)
            np.testing.assert_allclose(blob.data, expected, rtol=0, atol=TOLERANCE * moved)
