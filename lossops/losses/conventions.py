"""How each library treats probabilities at the edge: one table that kernels, catalogue and documentation read."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONVENTIONS", "Convention"]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The choices in which libraries differ, as numbers that formulas take.

    Args:
        name: as configs spell it.
        meaning: one line for the catalogue.
        clip: probabilities are limited to [clip, 1 - clip] before the logarithm.
        binary_log_epsilon: added inside the logarithm of the binary cross-entropy.
        renormalise: 1 if class probabilities are divided by their sum before clipping.
        renormalise_sparse: the same for integer labels.
        renormalise_sparse_clipped: 1 if, for integer labels, they are divided by their sum after clipping.
    """

    name: str
    meaning: str
    clip: float
    binary_log_epsilon: float
    renormalise: float
    renormalise_sparse: float
    renormalise_sparse_clipped: float


_ALL = (
    Convention(
        name="keras",
        meaning="Keras 3, computed in float64: class probabilities are renormalised, then all are clipped by 1e-7",
        clip=1e-7,
        binary_log_epsilon=0.0,
        renormalise=1.0,
        renormalise_sparse=1.0,
        renormalise_sparse_clipped=0.0,
    ),
    Convention(
        name="tf_keras",
        meaning="Keras 2 (tf-keras), computed in float64: as keras, but the binary cross-entropy adds 1e-7 inside the "
        "logarithm and integer labels renormalise after clipping",
        clip=1e-7,
        binary_log_epsilon=1e-7,
        renormalise=1.0,
        renormalise_sparse=0.0,
        renormalise_sparse_clipped=1.0,
    ),
    Convention(
        name="exact",
        meaning="the formula as it stands: nothing is clipped or renormalised, a certain and wrong row loses infinity",
        clip=0.0,
        binary_log_epsilon=0.0,
        renormalise=0.0,
        renormalise_sparse=0.0,
        renormalise_sparse_clipped=0.0,
    ),
)

CONVENTIONS = {convention.name: convention for convention in _ALL}
