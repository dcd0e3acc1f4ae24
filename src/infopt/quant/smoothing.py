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
