"""Which of a message's fields come from forks of Caffe, so that none is passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from breve.proto.schema import is_repeated

FIRST_NUMBER = 47000
"""Where the numbers begin that the schema gives to what forks added to Caffe's own messages."""

HINTS = {
    "cache", "conv_algos_override", "cudnn_convolution_algo_seeker", "cudnn_math_override", "debug",
    "default_backward_math", "default_backward_type", "default_conv_algos_override", "default_cudnn_math_override",
    "default_forward_math", "default_forward_type", "backward_math", "backward_type", "forward_math", "forward_type",
    "eltwise_mem_sharing", "engine", "global_grad_scale", "global_grad_scale_adaptive", "parser_threads", "precache",
    "reduce_buckets", "threads", "use_gpu_transform",
}  # fmt: skip
"""Fields about how a machine should compute, not what: engines, precisions, threads."""


def fork_fields(message: Any) -> list[str]:
    """The fields set in a message of Caffe that a fork added to it and that may change the answer, by dotted names.

    Hints are not among them, nor the parameters of a fork's own layers (`permute_param`), which those layers read.

    >>> from breve.proto.schema import MESSAGES
    >>> from breve.proto.text import parse
    >>> text = 'type: "Convolution" convolution_param { hole: 2 conv_algos_override: "0" } permute_param { order: 1 }'
    >>> fork_fields(parse(text, MESSAGES["LayerParameter"]))
    ['convolution_param.hole']
    """
    return list(_added(message))


def _added(message: Any, prefix: str = "") -> Iterator[str]:
    in_layer = message.DESCRIPTOR.name in ("LayerParameter", "V1LayerParameter")
    for field, value in message.ListFields():
        if field.number >= FIRST_NUMBER:
            if field.name not in HINTS and not (in_layer and field.message_type):
                yield prefix + field.name
        elif field.message_type:
            for inner in value if is_repeated(field) else [value]:
                yield from _added(inner, f"{prefix}{field.name}.")
