"""Sums of the parts that a gradient's work is dealt out to, added up in the order of the parts."""

from __future__ import annotations

from breve.kernels.threads import inline


@inline
def add_parts(sums, first, count):
    """Add up the sums [part, first : first + count] of all parts where those of the first part lie."""
    total = sums[0, first : first + count]
    for part in range(1, sums.shape[0]):
        addend = sums[part, first : first + count]
        for i in range(count):
            total[i] += addend[i]
