"""Record what Caffe 1.0 reads: run in this folder, with a Python that has it, to write `expected.npz` anew."""

import tempfile

import numpy as np


def record():
    import caffe
    from cases import CASES

    expected = {}
    for name, (phase, runs, prototxt) in CASES.items():
        with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
            file.write(prototxt)
            file.flush()
            net = caffe.Net(file.name, getattr(caffe, phase))
        for run in range(runs):
            net.forward()
            for blob in net.blobs:
                expected[f"{name}/{run}/{blob}"] = net.blobs[blob].data.copy()
    np.savez_compressed("expected.npz", **expected)


if __name__ == "__main__":
    record()
