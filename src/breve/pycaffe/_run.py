"""Process-wide settings: phases, mode, seed."""

import warnings

from breve.randomness import set_random_seed

TRAIN, TEST = 0, 1


def set_mode_cpu() -> None:
    """Run on the CPU, as breve always does."""


def set_mode_gpu() -> None:
    """Warn that everything runs on the CPU, and go on."""
    warnings.warn("breve has no GPU mode; it runs on the CPU", stacklevel=2)


def set_device(device: int) -> None:
    """Warn that there is no GPU to choose, and go on."""
    warnings.warn(f"breve has no GPU mode; device {device} is ignored", stacklevel=2)


__all__ = ["TEST", "TRAIN", "set_device", "set_mode_cpu", "set_mode_gpu", "set_random_seed"]
