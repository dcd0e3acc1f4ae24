"""SmoothQuant: how hard to quantize is shared between activations and weights."""

from __future__ import annotations

import numpy as np

from infopt.errors import QuantizationError

ALPHA = 0.5
BOUND = 2.0**20
"""No factor is larger than this or smaller than its inverse: products stay far from infinity."""


def smooth_factors(
    activations: np.ndarray, weights: np.ndarray, alpha: float = ALPHA
) -> np.ndarray:
    """What to divide each channel of the activations by, and multiply its weights by.

    Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language
    Models" (arXiv:2211.10438): ``s = max|x|^a / max|w|^(1 - a)``. The product does not change; the
    larger ``a`` is, the more of a channel's outliers moves from the activations into the weights.

    Args:
        activations: ``(channels,)``: ``max|x|`` of each channel.
        weights: ``(channels,)``: ``max|w|`` of the weights that meet it, of all layers that read
            the activation together.
        alpha: ``a``, 0 to 1.

    Returns:
        float32 ``(channels,)``; 1 where a channel or its weights are all 0.

    Raises:
        QuantizationError: ``alpha``, the shapes, or the maxima make no sense.
    """
    if not 0 <= alpha <= 1:
        raise QuantizationError(f"alpha lies within [0, 1], not {alpha:g}")
    if activations.shape != weights.shape or activations.ndim != 1:
        raise QuantizationError(
            f"maxima of the same channels expected, got shapes {list(activations.shape)} of the "
            f"activations and {list(weights.shape)} of the weights"
        )
    a, w = activations.astype(np.float64), weights.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(w).all() and (a >= 0).all() and (w >= 0).all()):
        raise QuantizationError("maxima of magnitudes are finite and not negative; these are not")
    some = (a > 0) & (w > 0)
    factors = np.ones_like(a)
    factors[some] = a[some] ** alpha / w[some] ** (1 - alpha)
    return np.clip(factors, 1 / BOUND, BOUND).astype(np.float32)


def expected_noise(
    activations: np.ndarray, means: np.ndarray, weight: np.ndarray, factors: np.ndarray
) -> float:
    """The squared error to expect of ``x Wᵀ`` at 8 bits, once ``factors`` are moved; to compare.

    Rounding is taken for noise of a twelfth of a step squared. A step of the activations is a part
    of the largest channel, one of the weights a part of the largest input of that output. How large
    inputs are on the whole follows from their mean magnitudes, as if they were normal.

    Args:
        activations: ``(in,)``: ``max|x|`` of each channel.
        means: ``(in,)``: the mean of ``|x|`` of each channel.
        weight: ``(out, in)``, of all layers that read the activation together.
        factors: ``(in,)``, as :func:`smooth_factors` returns them.
    """
    s = factors.astype(np.float64)
    scaled = weight * s
    largest = (activations / s).max(initial=0.0)
    rounded_inputs = np.square(largest) * np.square(scaled).sum()
    power = 0.5 * np.pi * np.square(means / s).sum()
    rounded_weights = np.square(np.abs(scaled).max(axis=1, initial=0.0)).sum() * power
    return float(rounded_inputs + rounded_weights)
