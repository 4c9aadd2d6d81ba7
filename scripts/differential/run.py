"""Run nets described in .npz files (prototxt, phase, in_*, seed) forward and backward through `caffe` or breve.

    python run.py MODULE FOLDER

MODULE is `caffe` or `breve.pycaffe`; every FOLDER/N.npz gives FOLDER/N.MODULE.npz with all data, diffs and parameters.
Caffe runs each net in a process of its own, because it aborts on what it does not like; that leaves no file. Runs on
any Python from 3.6 that has the module and NumPy.
"""

import importlib
import os
import sys

import numpy as np


def run(module, path):
    """All that the net computes, as arrays by name."""
    caffe = sys.modules["caffe_under_test"] = importlib.import_module(module)
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
    if "array_0" in case.files:
        net.set_input_arrays(case["array_0"], case["array_1"])
    return {**forward(net, case), **(backward(net, case, rng) if case["backward"] else {})}


def forward(net, case):
    """The data of every blob after each pass, and the parameters in the end."""
    found = {}
    for step in range(int(case["steps"])):
        for name in net.inputs:
            net.blobs[name].data[...] = case["in_" + name]
        net.forward()
        found.update({f"data{step}_{name}": np.array(blob.data) for name, blob in net.blobs.items()})
    found.update(parameters(net, "data"))
    return found


def backward(net, case, rng):
    """The diffs of the inputs and of the parameters, from random ones of the outputs."""
    for name in net.outputs:
        net.blobs[name].diff[...] = rng.uniform(-1, 1, net.blobs[name].data.shape)
    net._backward(len(net.layers) - 1, 0)
    inputs = net.inputs if "force_backward" in str(case["prototxt"]) else []
    found = {"diff_" + name: np.array(net.blobs[name].diff) for name in inputs}
    found.update(parameters(net, "diff"))
    return found


def parameters(net, kind):
    """Data or diff of every parameter."""
    return {
        f"p{kind}_{layer}_{i}": np.array(getattr(blob, kind))
        for layer, blobs in net.params.items()
        for i, blob in enumerate(blobs)
    }


def run_to_file(module, path):
    """Run, and write what was computed; nothing is written where that is refused."""
    try:
        np.savez(path[:-4] + "." + module + ".npz", **run(module, path))
    except Exception as error:
        print(os.path.basename(path), f"{type(error).__name__}: {error}", file=sys.stderr)


def in_child(module, path):
    """Run in a forked process; Caffe's last words go nowhere."""
    child = os.fork()
    if not child:
        run_to_file(module, path)
        os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112 (its name)
    module, folder = sys.argv[1:3]
    os.chdir(folder)
    sys.path.insert(0, folder)
    importlib.import_module(module)
    if module.startswith("breve"):
        importlib.import_module("breve").allow_python_layers()
    for name in sorted(os.listdir(folder)):
        if name.endswith(".npz") and name.count(".") == 1:
            (in_child if module == "caffe" else run_to_file)(module, os.path.join(folder, name))
