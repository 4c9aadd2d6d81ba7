"""Layers of forks against their formulas, written once more with plain loops."""

import math

import numpy as np
import pytest

from layer_run import LayerRun
from layers.table import CASES

CASE = {case.name: case for case in CASES}


def outputs_and_run(name):
    run = CASE[name].run()
    return run.forward(), run


def jaccard(a, b, border=0.0):
    w = min(a[2], b[2]) - max(a[0], b[0]) + border
    h = min(a[3], b[3]) - max(a[1], b[1]) + border
    if w <= 0 or h <= 0:
        return 0.0
    area = [(box[2] - box[0] + border) * (box[3] - box[1] + border) for box in (a, b)]
    return w * h / (sum(area) - w * h)


def greedy(boxes, scores, threshold, border=0.0):
    """Non-maximum suppression as everybody writes it first."""
    left, kept = sorted(range(len(scores)), key=lambda i: -scores[i]), []
    while left:
        kept.append(left.pop(0))
        left = [i for i in left if jaccard(boxes[kept[-1]], boxes[i], border) <= threshold]
    return kept


def center_size(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]


ACTIVATIONS = {
    "relu6": lambda x: min(max(x, 0), 6),
    "relu6_leaky": lambda x: min(x, 6) if x > 0 else 0.1 * x,
    "hard_sigmoid": lambda x: max(0, min(1, 0.2 * x + 0.5)),
    "hard_swish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "mish": lambda x: x * math.tanh(math.log(1 + math.exp(x))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    (y,), run = outputs_and_run(name)
    np.testing.assert_allclose(y, np.vectorize(ACTIVATIONS[name], otypes=[float])(run.values[0]), rtol=1e-6, atol=1e-7)


def test_crelu_puts_both_halves_side_by_side():
    (y,), run = outputs_and_run("crelu")
    x = run.values[0]
    leaky = np.vectorize(lambda v: v if v > 0 else 0.1 * v)
    np.testing.assert_allclose(y, np.concatenate([leaky(x), leaky(-x)], axis=1), rtol=1e-6)


def test_selu():
    (y,), run = outputs_and_run("selu")
    selu = np.vectorize(lambda v: 1.0507 * (v if v > 0 else 1.6733 * (math.exp(v) - 1)))
    np.testing.assert_allclose(y, selu(run.values[0]), rtol=1e-6)


def test_dropout_that_does_not_scale_in_training_shrinks_in_testing():
    (trained,), run = outputs_and_run("dropout_unscaled")
    assert ((trained == run.values[0]) | (trained == 0)).all()
    (tested,), run = outputs_and_run("dropout_unscaled_test")
    np.testing.assert_allclose(tested, 0.5 * run.values[0])


def test_dropout_sampled_while_testing():
    (y,), run = outputs_and_run("dropout_sampled")
    assert (y == 0).any()
    np.testing.assert_allclose(y[y != 0], 2 * run.values[0][y != 0])


def test_softmax_loss_with_class_weights():
    (loss,), run = outputs_and_run("softmax_loss_weighted")
    total, count = 0.0, 0
    for (n, h, w), label in np.ndenumerate(run.values[1].astype(int)):
        if label != 1:
            scores = run.values[0][n, :, h, w]
            total -= (0.5, 1, 2)[label] * (scores[label] - math.log(sum(math.exp(v) for v in scores)))
            count += 1
    assert loss == pytest.approx(total / count)


def test_softmax_loss_with_a_fixed_divisor():
    case = CASE["softmax_loss_pre_fixed"]
    plain = LayerRun('type: "SoftmaxWithLoss" loss_param { normalization: NONE }', case.values()).forward()[0]
    assert case.run().forward()[0] == pytest.approx(plain / 2.5)


def test_permute():
    (y,), run = outputs_and_run("permute")
    assert y.shape == (2, 4, 5, 3)
    assert all(y[n, h, w, c] == value for (n, c, h, w), value in np.ndenumerate(run.values[0]))


def test_shuffle_channel():
    (y,), run = outputs_and_run("shuffle_channel")
    for group in range(3):
        for k in range(2):
            np.testing.assert_array_equal(y[:, k * 3 + group], run.values[0][:, group * 2 + k])


def darknet_reorg(x, stride, forward):
    """The index arithmetic of darknet's reorg_cpu."""
    (n, c, h, w), x, y = x.shape, x.ravel(), np.empty(x.size)
    out_c = c // stride**2
    for b, k, j, i in np.ndindex(n, c, h, w):
        inner = i + w * (j + h * (k + c * b))
        c2, offset = k % out_c, k // out_c
        w2, h2 = i * stride + offset % stride, j * stride + offset // stride
        outer = w2 + w * stride * (h2 + h * stride * (c2 + out_c * b))
        if forward:
            y[outer] = x[inner]
        else:
            y[inner] = x[outer]
    return y


@pytest.mark.parametrize(("name", "shape"), [("reorg", (2, 32, 2, 3)), ("reorg_reverse", (2, 2, 6, 4))])
def test_reorg_is_darknets(name, shape):
    (y,), run = outputs_and_run(name)
    assert y.shape == shape
    np.testing.assert_array_equal(y.ravel(), darknet_reorg(run.values[0], 2, name == "reorg_reverse"))


@pytest.mark.parametrize(("name", "sigma"), [("smooth_l1", 1), ("smooth_l1_weighted", 2), ("smooth_l1_inside", 1)])
def test_smooth_l1(name, sigma):
    (loss,), run = outputs_and_run(name)
    a, b, *weights = run.values
    inside, outside = [*weights, np.ones_like(a), np.ones_like(a)][:2]
    total = 0.0
    for i in np.ndindex(a.shape):
        d = inside[i] * (a[i] - b[i])
        total += outside[i] * (sigma**2 * d * d / 2 if abs(d) < 1 / sigma**2 else abs(d) - 0.5 / sigma**2)
    assert loss == pytest.approx(total / len(a))


def test_prior_box():
    (top,), _ = outputs_and_run("prior_box")
    rows = iter(top[0, 0].reshape(-1, 4))
    shapes = [
        (20, 20),
        (math.sqrt(800),) * 2,
        (20 * math.sqrt(2), 20 / math.sqrt(2)),
        (20 / math.sqrt(2), 20 * math.sqrt(2)),
    ]
    for h in range(3):
        for w in range(2):
            for box_w, box_h in shapes:
                x, y = (w + 0.5) * 40, (h + 0.5) * 20
                box = [(x - box_w / 2) / 80, (y - box_h / 2) / 60, (x + box_w / 2) / 80, (y + box_h / 2) / 60]
                np.testing.assert_allclose(next(rows), np.clip(box, 0, 1), rtol=1e-6)
    assert next(rows, None) is None
    np.testing.assert_allclose(top[0, 1].reshape(-1, 4), np.tile([0.1, 0.1, 0.2, 0.2], (24, 1)))


def test_prior_box_with_steps_cuts_sizes_to_whole_pixels():
    run = CASE["prior_box_steps"].run()
    run.param.prior_box_param.min_size[1] = 20.9
    run.layer.setup(run.bottom, run.top)
    (top,) = run.forward()
    np.testing.assert_allclose(top[0, 0, 8:16], np.array([3, -5, 13, 5, -2, -10, 18, 10]) / 60, rtol=1e-6)


def decoded(location, prior, variance):
    x, y, w, h = center_size(prior)
    cx, cy = x + location[0] * variance[0] * w, y + location[1] * variance[1] * h
    bw, bh = w * math.exp(location[2] * variance[2]), h * math.exp(location[3] * variance[3])
    return [cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2]


def test_detection_output():
    (top,), run = outputs_and_run("detection_output")
    priors, variances = run.values[2].reshape(2, 12, 4)
    want = []
    for n, (location, confidence) in enumerate(
        zip(run.values[0].reshape(2, 12, 4), run.values[1].reshape(2, 12, 3), strict=True)
    ):
        boxes, found = [decoded(*args) for args in zip(location, priors, variances, strict=True)], []
        for label in (1, 2):
            confident = sorted(
                (i for i in range(12) if confidence[i, label] > 0.3), key=lambda i: -confidence[i, label]
            )[:10]
            kept = greedy([boxes[i] for i in confident], [confidence[i, label] for i in confident], 0.4)
            found += [[n, label, confidence[confident[k], label], *boxes[confident[k]]] for k in kept]
        best = sorted(found, key=lambda row: -row[2])[:5]
        want += [row for row in found if row in best]
    np.testing.assert_allclose(top[0, 0], want, rtol=1e-9)
    assert len(want) == 10


def test_detection_output_without_objects_names_the_images():
    case = CASE["detection_output"]
    location, confidence, priors = case.values()
    np.testing.assert_array_equal(
        case.run([location, 0 * confidence, priors]).forward()[0][0, 0], [[0, *[-1] * 6], [1, *[-1] * 6]]
    )


def multibox_parts(values):
    """Both losses of a training step and the number of matches: softmax, smooth L1, three negatives a positive."""
    location, confidence = values[0].reshape(2, 12, 4), values[1].reshape(2, 12, 3)
    priors, variances = values[2].reshape(2, 12, 4)
    loc_loss = conf_loss = matched = 0.0
    for n in range(2):
        objects = [row for row in values[3].reshape(-1, 8) if row[0] == n]
        overlap = np.array([[jaccard(prior, row[3:7]) for row in objects] for prior in priors])
        match, free = {}, set(range(len(objects)))
        while free:
            i, k = max(((i, k) for i in range(12) if i not in match for k in sorted(free)), key=lambda ik: overlap[ik])
            match[i] = k
            free.remove(k)
        for i in range(12):
            if i not in match and overlap[i].max() >= 0.5:
                match[i] = int(overlap[i].argmax())
        logs = [row - math.log(sum(math.exp(v) for v in row)) for row in confidence[n]]
        others = [i for i in range(12) if i not in match and overlap[i].max() < 0.5]
        negatives = sorted(others, key=lambda i: logs[i][0])[: 3 * len(match)]
        conf_loss -= sum(logs[i][int(objects[k][1])] for i, k in match.items()) + sum(logs[i][0] for i in negatives)
        for i, k in match.items():
            (x, y, w, h), (px, py, pw, ph) = center_size(objects[k][3:7]), center_size(priors[i])
            target = np.array([(x - px) / pw, (y - py) / ph, math.log(w / pw), math.log(h / ph)]) / variances[i]
            loc_loss += sum(d * d / 2 if d < 1 else d - 0.5 for d in np.abs(location[n, i] - target))
        matched += len(match)
    return loc_loss, conf_loss, matched


def test_multibox_loss():
    (loss,), run = outputs_and_run("multibox_loss")
    loc_loss, conf_loss, matched = multibox_parts(run.values)
    assert matched >= 3
    assert loss == pytest.approx((loc_loss + conf_loss) / matched)


def test_multibox_loss_of_one_bottom_only():
    case = CASE["multibox_loss"]
    loc_loss, _, matched = multibox_parts(case.values())
    run = case.run()
    run.param.propagate_down.extend([True, False, False, False])
    assert run.forward()[0] == pytest.approx(loc_loss / matched)


def test_proposal_is_py_faster_rcnns():
    (rois, scores), run = outputs_and_run("proposal")
    want = []
    for n in range(2):
        height, width, scale = run.values[2][n]
        boxes, score = [], []
        for h in range(4):
            for w in range(5):
                for a, (low, high) in enumerate([(0, 15), (-8, 23)]):
                    size = high - low + 1
                    x, y = w * 16 + low + size / 2, h * 16 + low + size / 2
                    dx, dy, dw, dh = run.values[1][n, 4 * a : 4 * a + 4, h, w]
                    x, y, bw, bh = x + dx * size, y + dy * size, size * math.exp(dw), size * math.exp(dh)
                    corners = [x - bw / 2, y - bh / 2, x + bw / 2, y + bh / 2]
                    box = [min(max(v, 0), limit - 1) for v, limit in zip(corners, [width, height] * 2, strict=True)]
                    if box[2] - box[0] + 1 >= 4 * scale and box[3] - box[1] + 1 >= 4 * scale:
                        boxes.append(box)
                        score.append(run.values[0][n, 2 + a, h, w])
        want += [[n, *boxes[k], score[k]] for k in greedy(boxes, score, 0.5, border=1)]
    np.testing.assert_allclose(np.concatenate([rois, scores], axis=1), want, rtol=1e-9)


@pytest.mark.parametrize("param_str", ["'feat_stride': 8\\n'scales': [1, 2, 4]", "{feat_stride: 8, scales: (1, 2, 4)}"])
def test_the_python_layer_of_faster_rcnn_needs_no_module(param_str):
    rng = np.random.default_rng(3)
    values = [rng.uniform(0, 1, (1, 18, 3, 4)), 0.2 * rng.standard_normal((1, 36, 3, 4)), np.array([[64.0, 80, 1]])]
    names = 'module: "rpn.proposal_layer" layer: "ProposalLayer"'
    python = LayerRun(f'type: "Python" python_param {{ {names} param_str: "{param_str}" }}', values)
    built_in = LayerRun(
        'type: "Proposal" proposal_param { feat_stride: 8 scale: [1, 2, 4] pre_nms_topn: 12000 post_nms_topn: 2000 }',
        values,
    )
    np.testing.assert_array_equal(python.forward()[0], built_in.forward()[0])
    assert len(python.top[0].data) > 1


def test_standard_anchors_are_those_of_faster_rcnn():
    from breve.layers.proposal import Settings, anchors

    published = [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199], [-56, -56, 71, 71], [-120, -120, 135, 135],
        [-248, -248, 263, 263], [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]  # fmt: skip
    np.testing.assert_array_equal(anchors(Settings()), published)


def logistic(v):
    return 1 / (1 + math.exp(-v))


@pytest.mark.parametrize("name", ["region", "region_sigmoid"])
def test_region(name):
    (y,), run = outputs_and_run(name)
    for n, a, h, w in np.ndindex(2, 2, 3, 4):
        x = run.values[0][n, 8 * a : 8 * a + 8, h, w]
        total = sum(math.exp(v) for v in x[5:])
        classes = [math.exp(v) / total for v in x[5:]] if name == "region" else [logistic(v) for v in x[5:]]
        want = [logistic(x[0]), logistic(x[1]), x[2], x[3], logistic(x[4]), *classes]
        np.testing.assert_allclose(y[n, 8 * a : 8 * a + 8, h, w], want, rtol=1e-9)


def test_region_loss():
    (loss,), run = outputs_and_run("region_loss")
    biases, total = [(1, 2), (2.5, 1.5)], 0.0
    for n in range(2):
        objects = [row for row in run.values[1][n] if row[3]]
        truth = [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for _, x, y, w, h in objects]
        owner = {}
        for k, (_, x, y, w, h) in enumerate(objects):
            shapes = [jaccard([0, 0, bw / 4, bh / 3], [0, 0, w, h]) for bw, bh in biases]
            centred = [
                min(bw / 4, w) * min(bh / 3, h) / (bw / 4 * bh / 3 + w * h - min(bw / 4, w) * min(bh / 3, h))
                for bw, bh in biases
            ]
            assert shapes == pytest.approx(centred)
            owner[int(y * 3), int(x * 4), int(np.argmax(centred))] = k
        for h, w, a in np.ndindex(3, 4, 2):
            x = run.values[0][n, 8 * a : 8 * a + 8, h, w]
            px, py, po = logistic(x[0]), logistic(x[1]), logistic(x[4])
            bw, bh = biases[a][0] * math.exp(x[2]) / 4, biases[a][1] * math.exp(x[3]) / 3
            cx, cy = (w + px) / 4, (h + py) / 3
            box = [cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2]
            if (h, w, a) in owner:
                label, ox, oy, ow, oh = objects[owner[h, w, a]]
                target = [ox * 4 - w, oy * 3 - h, math.log(ow * 4 / biases[a][0]), math.log(oh * 3 / biases[a][1])]
                total += (1 - po) ** 2 / 2 + 5 * sum(
                    (t - v) ** 2 for t, v in zip(target, [px, py, x[2], x[3]], strict=True)
                ) / 2
                total -= x[5 + int(label)] - math.log(sum(math.exp(v) for v in x[5:]))
            elif max(jaccard(box, t) for t in truth) <= 0.2:
                total += 0.5 * po**2 / 2
    assert loss == pytest.approx(total / 2)
