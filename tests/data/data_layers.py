"""Nets of one data layer."""

from google.protobuf import text_format

from breve.net import Net
from breve.proto import NetParameter


def net_of(layer: str, phase="TRAIN", tops=("data", "label"), **options) -> Net:
    """A net of the layer whose inside is `layer`."""
    top = " ".join(f'top: "{name}"' for name in tops)
    return Net(text_format.Parse(f'layer {{ name: "d" {top} {layer} }}', NetParameter()), phase, **options)


def batches(net: Net, count: int) -> list:
    """What the next forward passes put in the blobs."""
    taken = []
    for _ in range(count):
        net.forward()
        taken.append({name: blob.data.copy() for name, blob in net.blobs.items()})
    return taken


def equal(one: list, other: list) -> bool:
    """Whether two lists of batches are the same, number by number."""
    return all(
        a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a) for a, b in zip(one, other, strict=True)
    )
