"""Bias correction: the mean error that quantized weights cause, taken out of the bias."""

from __future__ import annotations

import numpy as np

from infopt.errors import QuantizationError


def corrected_bias(
    weight: np.ndarray,
    quantized: np.ndarray,
    mean: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    groups: int = 1,
) -> np.ndarray:
    """The bias with which the outputs keep their means: ``b - (Ŵ - W) · E[x]``.

    Nagel et al., arXiv:1906.04721, section 4.2. Of a convolution the mean holds for every pixel of
    a channel; at padded edges, which see zeros as well, it corrects a little too much.

    Args:
        weight: ``W``: ``(out, in)``, or ``(out, in / groups, *kernel)``.
        quantized: ``Ŵ``, what stands for it, dequantized; same shape.
        mean: ``E[x]``: ``(in,)``, the mean of each input channel.
        bias: ``b``: ``(out,)``; ``None`` stands for zeros.
        groups: Groups of a convolution; as many as channels for a depthwise one.

    Returns:
        float32 ``(out,)``.

    Raises:
        QuantizationError: The shapes do not fit, or the result is not finite.
    """
    if weight.shape != quantized.shape or weight.ndim < 2:
        raise QuantizationError(
            f"weights (out, in, …) of one shape expected, got {list(weight.shape)} and "
            f"{list(quantized.shape)}"
        )
    outputs, inputs = weight.shape[:2]
    if groups < 1 or outputs % groups or mean.shape != (inputs * groups,):
        raise QuantizationError(
            f"weights of shape {list(weight.shape)} in {groups} groups have means of "
            f"{inputs * groups} inputs, not shape {list(mean.shape)}"
        )
    if bias is not None and bias.shape != (outputs,):
        raise QuantizationError(f"a bias of shape {list(bias.shape)} for {outputs} outputs")
    error = quantized.astype(np.float64) - weight.astype(np.float64)
    error = error.reshape(groups, outputs // groups, inputs, -1).sum(axis=3)
    shift = np.einsum("goi,gi->go", error, mean.astype(np.float64).reshape(groups, inputs))
    found = (0.0 if bias is None else bias.astype(np.float64)) - shift.ravel()
    with np.errstate(over="ignore"):
        narrow = found.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise QuantizationError("the corrected bias is not finite; look at weights and means")
    return np.asarray(narrow)
