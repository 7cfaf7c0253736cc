"""How each library treats the edges of a loss: one table that kernels, catalogue and documentation read.

Every field but ``name``, ``meaning`` and ``denominator`` is a number that formulas take as a setting. The defaults are
those of ``exact``, so that an entry lists only what a library does differently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

__all__ = ["CONVENTIONS", "LIMITS", "Convention", "rule_meanings"]


def _rule(default: float, meaning: str) -> float:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The choices in which libraries differ.

    Args:
        name: as configs spell it.
        meaning: one line for the catalogue.
        denominator: what the library divides a sum of losses by, see `lossops.losses.bound.DENOMINATORS`.
        float32: rules that differ where the library computes in float32.
    """

    name: str
    meaning: str
    denominator: str = "weights"
    float32: Mapping[str, float] = field(default_factory=dict)

    clip_low: float = _rule(0.0, "probabilities below this are raised to it")
    clip_high: float = _rule(0.0, "probabilities above 1 minus this are lowered to it")
    binary_log_floor: float = _rule(-math.inf, "logarithms of the two classes' probabilities are at least this")
    binary_log_epsilon: float = _rule(0.0, "added inside the logarithm of the binary cross-entropy")
    categorical_log_floor: float = _rule(-math.inf, "logarithms of class probabilities are at least this")
    renormalise: float = _rule(0.0, "1: class probabilities are divided by their sum before clipping")
    renormalise_sparse: float = _rule(0.0, "the same for integer labels")
    renormalise_sparse_clipped: float = _rule(0.0, "1: for integer labels they are divided by their sum after clipping")
    argmax_ties: float = _rule(0.0, "several highest classes: 0 the first counts, 1 a tie with the true class is wrong")
    top_k_ties: float = _rule(
        0.0, "ties at rank k: 0 the first counts, 1 the last counts, 2 the true class wins, 3 the true class loses"
    )
    halve_two_classes: float = _rule(0.0, "1: the Brier score of two classes is halved, that of more is not")
    percentage_floor: float = _rule(0.0, "smallest denominator of a percentage error")
    percentage_scale: float = _rule(1.0, "100: percentage errors are percent, 1: they are fractions")
    log1p_clamp: float = _rule(-1.0, "label and prediction of the squared logarithmic error are at least this")
    poisson_log_epsilon: float = _rule(0.0, "added inside the logarithm of the Poisson likelihood")
    mean_floor: float = _rule(0.0, "smallest mean of a Poisson likelihood")
    stirling: float = _rule(
        0.0, "1: a full Poisson likelihood takes Stirling's formula for log(y!) where y > 1, and nothing elsewhere"
    )
    gamma_mean_floor: float = _rule(0.0, "smallest mean of a gamma likelihood")
    tweedie_mean_floor: float = _rule(0.0, "smallest mean of a Tweedie likelihood")
    gamma_label_epsilon: float = _rule(0.0, "added to the label of the gamma deviance")
    gamma_mean_epsilon: float = _rule(0.0, "added to the prediction of the gamma deviance")
    variance_floor: float = _rule(0.0, "smallest variance of a Gaussian likelihood")
    divergence_clip: float = _rule(0.0, "probabilities of a Kullback-Leibler divergence are limited to [this, 1]")
    norm_floor: float = _rule(0.0, "smallest norm that a vector is divided by for its cosine with another")
    squared_norm_epsilon: float = _rule(0.0, "added to the squared norms of a cosine embedding")
    distance_epsilon: float = _rule(0.0, "added to every difference inside the distance of a triplet")
    ratio_epsilon: float = _rule(0.0, "added to the denominator of an overlap ratio")
    average_outputs: float = _rule(1.0, "root errors of several outputs: 1 their mean, 0 the root over all outputs")

    def in_float32(self) -> Convention:
        """The same library computing in float32."""
        return replace(self, **self.float32)  # type: ignore[arg-type]

    def clipped_by(self, clip: float) -> Convention:
        """The same with probabilities limited to [clip, 1 - clip] and nothing else done to them."""
        return replace(
            self,
            clip_low=clip,
            clip_high=clip,
            binary_log_floor=-math.inf,
            categorical_log_floor=-math.inf,
            binary_log_epsilon=0.0,
        )


LIMITS = frozenset({"clip_low", "clip_high", "binary_log_floor", "categorical_log_floor"})

_ALL = (
    Convention(
        name="keras",
        meaning="Keras 3, computed in float64: class probabilities are renormalised, then all are clipped by 1e-7",
        denominator="rows",
        float32={"clip_high": 2.0**-23},
        clip_low=1e-7,
        clip_high=1e-7,
        renormalise=1.0,
        renormalise_sparse=1.0,
        top_k_ties=2.0,
        percentage_floor=1e-7,
        percentage_scale=100.0,
        log1p_clamp=1e-7,
        poisson_log_epsilon=1e-7,
        divergence_clip=1e-7,
        norm_floor=1e-7,
        ratio_epsilon=1e-7,
        average_outputs=0.0,
    ),
    Convention(
        name="tf_keras",
        meaning="Keras 2 (tf-keras), computed in float64: as keras, but the binary cross-entropy adds 1e-7 inside the "
        "logarithm and integer labels renormalise after clipping",
        denominator="rows",
        float32={"clip_high": 2.0**-23},
        clip_low=1e-7,
        clip_high=1e-7,
        binary_log_epsilon=1e-7,
        renormalise=1.0,
        renormalise_sparse_clipped=1.0,
        top_k_ties=2.0,
        percentage_floor=1e-7,
        percentage_scale=100.0,
        log1p_clamp=1e-7,
        poisson_log_epsilon=1e-7,
        divergence_clip=1e-7,
        norm_floor=1e-6,
        ratio_epsilon=1e-7,
        average_outputs=0.0,
    ),
    Convention(
        name="sklearn",
        meaning="scikit-learn with float64 predictions: clipped by float64's epsilon, nothing renormalised",
        float32={"clip_low": 2.0**-23, "clip_high": 2.0**-23},
        clip_low=2.0**-52,
        clip_high=2.0**-52,
        top_k_ties=1.0,
        halve_two_classes=1.0,
        percentage_floor=2.0**-52,
    ),
    Convention(
        name="torch",
        meaning="PyTorch: the logarithms of BCELoss are limited to -100, class probabilities are taken as they are",
        denominator="class_weights",
        binary_log_floor=-100.0,
        poisson_log_epsilon=1e-8,
        stirling=1.0,
        variance_floor=1e-6,
        norm_floor=1e-8,
        squared_norm_epsilon=9.999999960041972e-13,  # 1e-12 in float32
        distance_epsilon=1e-6,
        average_outputs=0.0,
    ),
    Convention(
        name="xgboost",
        meaning="XGBoost's metrics: probabilities are at least 1e-16 inside the logarithm",
        binary_log_floor=math.log(1e-16),
        categorical_log_floor=math.log(1e-16),
        mean_floor=1e-16,
        gamma_mean_floor=1e-6,
        gamma_label_epsilon=1e-6,
        gamma_mean_epsilon=1e-6,
        average_outputs=0.0,
    ),
    Convention(
        name="lightgbm",
        meaning="LightGBM's binary_logloss and multi_logloss: probabilities are at least 1e-15 inside the logarithm; "
        "for its cross_entropy set clip to 1e-12",
        binary_log_floor=-34.53877639770508,  # log(1e-15) in float32, as it is computed there
        categorical_log_floor=-34.53877639770508,
        argmax_ties=1.0,
        top_k_ties=3.0,
        percentage_floor=1.0,
        mean_floor=1e-10,
        tweedie_mean_floor=1e-10,
        gamma_mean_epsilon=1e-9,
        average_outputs=0.0,
    ),
    Convention(
        name="spark",
        meaning="Spark's MulticlassMetrics: probabilities are clipped by 1e-15, nothing renormalised",
        clip_low=1e-15,
        clip_high=1e-15,
        binary_log_floor=math.log(1e-15),  # of the other class as well, which 1 - 1e-15 in float64 would miss
        average_outputs=0.0,
    ),
    Convention(
        name="exact",
        meaning="the formula as it stands: nothing is clipped or renormalised, a certain and wrong row loses infinity",
    ),
)

CONVENTIONS = {convention.name: convention for convention in _ALL}


def rule_meanings() -> dict[str, str]:
    """Return what each numeric rule means, by its name."""
    return {one.name: one.metadata["meaning"] for one in fields(Convention) if "meaning" in one.metadata}
