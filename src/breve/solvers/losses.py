"""The loss that is shown: a mean over the last iterations."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class LossAverage:
    """The mean of the last `window` losses, kept as Caffe's `UpdateSmoothedLoss` keeps it.

    >>> average = LossAverage(2)
    >>> [average.add(loss) for loss in (1.0, 2.0, 6.0)]
    [1.0, 1.5, 4.0]
    """

    window: int
    losses: list[float] = field(default_factory=list)
    oldest: int = 0
    mean: float = 0.0

    def add(self, loss: float) -> float:
        """Take one more loss in; the mean."""
        if len(self.losses) < self.window:
            self.losses.append(loss)
            self.mean += (loss - self.mean) / len(self.losses)
        else:
            self.mean += (loss - self.losses[self.oldest]) / self.window
            self.losses[self.oldest] = loss
            self.oldest = (self.oldest + 1) % self.window
        return self.mean
