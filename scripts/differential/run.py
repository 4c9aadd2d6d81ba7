"""Run a net described in an .npz (prototxt, phase, in_*, seed) forward and backward through `caffe` or breve.

    python run.py MODULE FOLDER

MODULE is `caffe` or `breve.pycaffe`; every FOLDER/N.npz gives FOLDER/N.MODULE.npz with all data, diffs and parameters.
Each net runs in a process of its own, because Caffe aborts on what it does not like; that leaves no file. Runs on any
Python from 3.6 that has the module and NumPy.
"""

import importlib
import os
import sys

import numpy as np


def run(module, path):
    """All that the net computes, as arrays by name."""
    caffe = importlib.import_module(module)
    case = np.load(path)
    prototxt = path[:-4] + "." + module + ".prototxt"
    with open(prototxt, "w") as file:
        file.write(str(case["prototxt"]))
    net = caffe.Net(prototxt, getattr(caffe, str(case["phase"])))
    rng = np.random.RandomState(int(case["seed"]))
    for blobs in net.params.values():
        for i, blob in enumerate(blobs):
            values = rng.uniform(-0.5, 0.5, blob.data.shape)
            blob.data[...] = np.abs(values) + 0.5 if i in case["positive_params"] else values
            blob.diff[...] = 0
    for name in net.inputs:
        net.blobs[name].data[...] = case["in_" + name]
    net.forward()
    found = {"data_" + name: np.array(blob.data) for name, blob in net.blobs.items()}
    if case["backward"]:
        for name in net.outputs:
            net.blobs[name].diff[...] = rng.uniform(-1, 1, net.blobs[name].data.shape)
        net._backward(len(net.layers) - 1, 0)
        inputs = net.inputs if "force_backward" in str(case["prototxt"]) else []
        found.update({"diff_" + name: np.array(net.blobs[name].diff) for name in inputs})
        for layer, blobs in net.params.items():
            found.update({f"pdiff_{layer}_{i}": np.array(blob.diff) for i, blob in enumerate(blobs)})
    return found


def in_child(module, path):
    """Run in a forked process; Caffe's last words go nowhere."""
    child = os.fork()
    if not child:
        try:
            np.savez(path[:-4] + "." + module + ".npz", **run(module, path))
        except Exception as error:
            print(os.path.basename(path), f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112 (its name)
    module, folder = sys.argv[1:3]
    for name in sorted(os.listdir(folder)):
        if name.endswith(".npz") and name.count(".") == 1:
            in_child(module, os.path.join(folder, name))
