"""Hold random layers against the real Caffe: a tool for development, as Caffe can hardly be installed any more.

    python scripts/differential/compare.py --caffe-python PYTHON [--count 1000] [--first 0]

PYTHON is an interpreter with a working `caffe` module. Prints every difference beyond 2e-4 of an array's largest value,
what either refused, and a summary by layer type. What is found is explained in docs/caffe.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from configurations import draw
from drawing import Layer
from sources import PYTHON_LAYER

TOLERANCE = 2e-4
RUN = Path(__file__).parent / "run.py"


def write(layer: Layer, path: Path, seed: int) -> None:
    """The case as run.py reads it."""
    for name, make in layer.files.items():
        make(path.with_name(f"{path.stem}_{name}"))
    values = {f"in_x{i}": x for i, x in enumerate(layer.bottoms)}
    arrays = {f"array_{i}": x for i, x in enumerate(layer.arrays)}
    np.savez(
        path, prototxt=layer.prototxt().replace("NAME", path.stem), phase=layer.phase, seed=seed,
        backward=layer.backward, steps=layer.steps, positive_params=np.array(layer.positive_params, int),
        **values, **arrays,
    )  # fmt: skip


def differences(theirs: Path, ours: Path, squeeze: bool = False) -> list[str]:
    """What disagrees, in words; empty when all agrees. `squeeze`: but for axes of one."""
    if not theirs.exists() or not ours.exists():
        return (
            []
            if theirs.exists() == ours.exists()
            else ["only Caffe runs it" if theirs.exists() else "only breve runs it"]
        )
    want, got = np.load(theirs), np.load(ours)
    found = [f"other blobs: {sorted(set(want.files) ^ set(got.files))}"] if set(want.files) != set(got.files) else []
    for name in set(want.files) & set(got.files):
        a, b = want[name].astype("d"), got[name].astype("d")
        a, b = (np.squeeze(a), np.squeeze(b)) if squeeze else (a, b)
        if a.shape != b.shape:
            found.append(f"{name}: shape {b.shape}, in Caffe {a.shape}")
        elif not np.array_equal(a, b, equal_nan=True):
            error = np.abs(a - b).max(initial=0) / max(np.abs(a).max(initial=0), 1e-6)
            if not error <= TOLERANCE:
                found.append(f"{name}: off by {error:.1e} of its largest value")
    return found


def main() -> int:
    """Draw, run both, compare, report; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--caffe-python", required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(args.first, args.first + args.count)
        layers = {seed: draw(seed) for seed in seeds}
        for seed, layer in layers.items():
            write(layer, Path(folder) / f"{seed:06d}.npz", seed)
        Path(folder, "user_layers.py").write_text(PYTHON_LAYER)
        for python, module in ((args.caffe_python, "caffe"), (sys.executable, "breve.pycaffe")):
            subprocess.run(
                [python, str(RUN), module, folder], check=True, stderr=subprocess.DEVNULL if module == "caffe" else None
            )
        for seed, layer in layers.items():
            theirs, ours = (Path(folder) / f"{seed:06d}.{m}.npz" for m in ("caffe", "breve.pycaffe"))
            wrong = differences(theirs, ours, squeeze=layer.type == "MemoryData")  # docs/caffe.md
            ran = "agree" if theirs.exists() else "both refuse"
            counts[layer.type, "differ" if wrong else ran] += 1
            for what in wrong:
                print(f"seed {seed}: {what}\n    {layer.prototxt().splitlines()[-1]}")
    for (type_, verdict), count in sorted(counts.items()):
        print(f"{type_:26s} {verdict:12s} {count}")
    totals = {v: sum(c for (_, w), c in counts.items() if w == v) for v in ("agree", "both refuse", "differ")}
    print(", ".join(f"{count} {verdict}" for verdict, count in totals.items()))
    return 1 if totals["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
