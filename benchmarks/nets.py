"""Benchmark networks as prototxt text, with synthetic data inside, so that one file drives any Caffe-compatible engine.

`python nets.py DIR` writes NAME.prototxt (TRAIN phase, DummyData, SoftmaxWithLoss) and NAME_solver.prototxt.
"""

import sys
from pathlib import Path


class Proto:
    """Collects layers; every method returns the name of its top."""

    def __init__(self, name, batch, channels, height, width, classes):
        self.text = [
            f'name: "{name}"',
            (
                'layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {'
                f" shape {{ dim: {batch} dim: {channels} dim: {height} dim: {width} }} shape {{ dim: {batch} }}"
                ' data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" value: 3 } } }'
            ),
        ]
        self.n, self.classes = 0, classes

    def layer(self, type_, bottom, param="", top=None, extra=""):
        self.n += 1
        name = f"{type_.lower()}{self.n}"
        bottoms = " ".join(f'bottom: "{b}"' for b in ([bottom] if isinstance(bottom, str) else bottom))
        top = top or name
        self.text.append(f'layer {{ name: "{name}" type: "{type_}" {bottoms} top: "{top}" {param} {extra} }}')
        return top

    def conv(self, x, out, k, stride=1, pad=0, group=1, bias=True, type_="Convolution"):
        return self.layer(
            type_,
            x,
            f"convolution_param {{ num_output: {out} kernel_size: {k} stride: {stride} pad: {pad}"
            f' group: {group} bias_term: {str(bias).lower()} weight_filler {{ type: "msra" }} }}',
        )

    def relu(self, x):
        return self.layer("ReLU", x, top=x)

    def bn(self, x, relu=True):
        self.layer("BatchNorm", x, top=x)
        self.layer("Scale", x, "scale_param { bias_term: true }", top=x)
        return self.relu(x) if relu else x

    def pool(self, x, k, stride, pad=0, how="MAX"):
        return self.layer("Pooling", x, f"pooling_param {{ pool: {how} kernel_size: {k} stride: {stride} pad: {pad} }}")

    def gap(self, x):
        return self.layer("Pooling", x, "pooling_param { pool: AVE global_pooling: true }")

    def fc(self, x, out):
        return self.layer(
            "InnerProduct", x, f'inner_product_param {{ num_output: {out} weight_filler {{ type: "xavier" }} }}'
        )

    def drop(self, x):
        return self.layer("Dropout", x, "dropout_param { dropout_ratio: 0.5 }", top=x)

    def done(self, x):
        self.layer("SoftmaxWithLoss", [x, "label"], top="loss")
        return "\n".join(self.text) + "\n"


def lenet(batch=64):
    p = Proto("lenet", batch, 1, 28, 28, 10)
    x = p.pool(p.conv("data", 20, 5), 2, 2)
    x = p.pool(p.conv(x, 50, 5), 2, 2)
    return p.done(p.fc(p.relu(p.fc(x, 500)), 10))


def cifar10_quick(batch=100):
    p = Proto("cifar10_quick", batch, 3, 32, 32, 10)
    x = p.relu(p.pool(p.conv("data", 32, 5, pad=2), 3, 2))
    x = p.pool(p.relu(p.conv(x, 32, 5, pad=2)), 3, 2, how="AVE")
    x = p.pool(p.relu(p.conv(x, 64, 5, pad=2)), 3, 2, how="AVE")
    return p.done(p.fc(p.fc(x, 64), 10))


def caffenet(batch=64):
    p = Proto("caffenet", batch, 3, 227, 227, 1000)

    def lrn(x):
        return p.layer("LRN", x, "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    x = lrn(p.pool(p.relu(p.conv("data", 96, 11, 4)), 3, 2))
    x = lrn(p.pool(p.relu(p.conv(x, 256, 5, pad=2, group=2)), 3, 2))
    x = p.relu(p.conv(x, 384, 3, pad=1))
    x = p.relu(p.conv(x, 384, 3, pad=1, group=2))
    x = p.pool(p.relu(p.conv(x, 256, 3, pad=1, group=2)), 3, 2)
    x = p.drop(p.relu(p.fc(x, 4096)))
    x = p.drop(p.relu(p.fc(x, 4096)))
    return p.done(p.fc(x, 1000))


def vgg16(batch=8):
    p = Proto("vgg16", batch, 3, 224, 224, 1000)
    x = "data"
    for v in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        x = p.relu(p.conv(x, v, 3, pad=1)) if v else p.pool(x, 2, 2)
    x = p.drop(p.relu(p.fc(x, 4096)))
    x = p.drop(p.relu(p.fc(x, 4096)))
    return p.done(p.fc(x, 1000))


def resnet50(batch=16):
    p = Proto("resnet50", batch, 3, 224, 224, 1000)
    x = p.pool(p.bn(p.conv("data", 64, 7, 2, 3, bias=False)), 3, 2)
    width = 64
    for mid, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for b in range(blocks):
            s = stride if b == 0 else 1
            y = p.bn(p.conv(x, mid, 1, bias=False))
            y = p.bn(p.conv(y, mid, 3, s, 1, bias=False))
            y = p.bn(p.conv(y, 4 * mid, 1, bias=False), relu=False)
            short = p.bn(p.conv(x, 4 * mid, 1, s, bias=False), relu=False) if width != 4 * mid else x
            x = p.relu(p.layer("Eltwise", [short, y]))
            width = 4 * mid
    return p.done(p.fc(p.gap(x), 1000))


def mobilenet(batch=16):
    p = Proto("mobilenet", batch, 3, 224, 224, 1000)
    x = p.bn(p.conv("data", 32, 3, 2, 1, bias=False))
    width = 32
    for out, s in (
        ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)) + ((512, 1),) * 5 + ((1024, 2), (1024, 1))
    ):
        x = p.bn(p.conv(x, width, 3, s, 1, group=width, bias=False))
        x = p.bn(p.conv(x, out, 1, bias=False))
        width = out
    return p.done(p.fc(p.gap(x), 1000))


NETS = {f.__name__: f for f in (lenet, cifar10_quick, caffenet, vgg16, resnet50, mobilenet)}


def solver(name):
    return (
        f'net: "{name}.prototxt"\nbase_lr: 0.01 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005\n'
        "max_iter: 1000000 display: 0 snapshot: 0 snapshot_after_train: false solver_mode: CPU random_seed: 1\n"
    )


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name, build in NETS.items():
        (out / f"{name}.prototxt").write_text(build())
        (out / f"{name}_solver.prototxt").write_text(solver(out.resolve() / name))
