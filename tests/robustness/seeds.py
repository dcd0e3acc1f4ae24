"""Small models that the fuzzer mutates: between them they use every corner of the format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks import models


@dataclasses.dataclass(frozen=True)
class Files:
    """A model file and what lies beside it."""

    model: bytes
    beside: Mapping[str, bytes] = dataclasses.field(default_factory=dict)


def _model(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    return model


def _floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def convolutions() -> Files:
    """Convolution, normalization, pooling and a classifier; opset 11, a batch of any size."""
    text = """
    <ir_version: 7, opset_import: ["" : 11]>
    net (float[n,3,16,16] image) => (float[n,5] scores) {
      c = Conv <kernel_shape = [3,3], pads = [1,1,1,1]> (image, kernel)
      b = BatchNormalization (c, scale, shift, mean, variance)
      r = Relu (b)
      p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r)
      d = Dropout (p)
      g = GlobalAveragePool (d)
      f = Flatten <axis = 1> (g)
      scores = Gemm <transB = 1> (f, weight, bias)
    }"""
    model = _model(
        text,
        kernel=_floats(8, 3, 3, 3),
        scale=_floats(8),
        shift=_floats(8),
        mean=_floats(8),
        variance=np.ones(8, np.float32),
        weight=_floats(5, 8),
        bias=_floats(5),
    )
    return Files(model.SerializeToString())


def attention() -> Files:
    """One attention layer with token ids, a mask, and the shape arithmetic of an exporter."""
    text = """
    <ir_version: 8, opset_import: ["" : 17], producer_name: "seed">
    layer (int64[batch,tokens] ids, int64[batch,tokens] mask) => (float[batch,tokens,16] y) {
      x = Gather (table, ids)
      s = Shape (x)
      zero = Constant <value = int64 {0}> ()
      one = Constant <value = int64 {1}> ()
      b = Gather <axis = 0> (s, zero)
      t = Gather <axis = 0> (s, one)
      axis = Constant <value_ints = [0]> ()
      b1 = Unsqueeze (b, axis)
      t1 = Unsqueeze (t, axis)
      heads = Constant <value_ints = [4, 4]> ()
      split = Concat <axis = 0> (b1, t1, heads)
      whole = Constant <value_ints = [16]> ()
      joined = Concat <axis = 0> (b1, t1, whole)
      q0 = MatMul (x, wq)
      k0 = MatMul (x, wk)
      q1 = Reshape (q0, split)
      k1 = Reshape (k0, split)
      q = Transpose <perm = [0,2,1,3]> (q1)
      k = Transpose <perm = [0,2,3,1]> (k1)
      v = Transpose <perm = [0,2,1,3]> (k1)
      p0 = MatMul (q, k)
      mf = Cast <to = 1> (mask)
      ones = Constant <value_float = 1.0> ()
      mi = Sub (ones, mf)
      low = Constant <value_float = -10000.0> ()
      mn = Mul (mi, low)
      axes = Constant <value_ints = [1, 2]> ()
      m4 = Unsqueeze (mn, axes)
      p1 = Add (p0, m4)
      p = Softmax <axis = -1> (p1)
      o = MatMul (p, v)
      ot = Transpose <perm = [0,2,1,3]> (o)
      r = Reshape (ot, joined)
      sum = Add (x, r)
      y = LayerNormalization <axis = -1> (sum, gamma, beta)
    }"""
    model = _model(
        text,
        table=_floats(50, 16),
        wq=_floats(16, 16),
        wk=_floats(16, 16),
        gamma=_floats(16),
        beta=_floats(16),
    )
    return Files(model.SerializeToString())


def branches() -> Files:
    """An If, a Loop and a Scan, which read values of the graph around them."""
    text = """
    <ir_version: 7, opset_import: ["" : 13]>
    flow (bool flag, float[2,3] x) => (float[2,3] y, float[s,2,3] steps, float[2,3] scanned) {
      chosen = If (flag) <
        then_branch = yes () => (float[2,3] a) { t = Relu (x)  a = Mul (t, w) },
        else_branch = no () => (float[2,3] b) { e = Neg (x)  b = Add (e, w) }
      >
      trips = Constant <value = int64 {3}> ()
      go = Constant <value = bool {1}> ()
      y, steps = Loop (trips, go, chosen) <
        body = step (int64 i, bool more, float[2,3] state)
          => (bool again, float[2,3] next, float[2,3] out) {
          again = Identity (more)
          next = Add (state, w)
          out = Sigmoid (next)
        }
      >
      start = Constant <value = float[3] {0.0, 0.0, 0.0}> ()
      last, scanned = Scan <num_scan_inputs = 1,
        body = fold (float[3] total, float[3] row) => (float[3] sum, float[3] copy) {
          sum = Add (total, row)
          copy = Identity (sum)
        }
      > (start, x)
    }"""
    return Files(_model(text, w=_floats(2, 3)).SerializeToString())


def functions() -> Files:
    """Functions that call functions, with attributes handed down."""
    text = """
    <ir_version: 9, opset_import: ["" : 18, "local" : 1]>
    main (float[n,8] x) => (float[n,4] y) {
      a = local.dense <alpha = 0.2> (x, w1, b1)
      y = local.dense <alpha = 0.1> (a, w2, b2)
    }
    <opset_import: ["" : 18, "local" : 1], domain: "local">
    dense <alpha> (x, w, b) => (y) {
      p = MatMul (x, w)
      s = Add (p, b)
      y = local.leaky <slope: float = @alpha> (s)
    }
    <opset_import: ["" : 18], domain: "local">
    leaky <slope> (x) => (y) { y = LeakyRelu <alpha: float = @slope> (x) }
    """
    model = _model(text, w1=_floats(8, 6), b1=_floats(6), w2=_floats(6, 4), b2=_floats(4))
    return Files(model.SerializeToString())


def external() -> Files:
    """Weights in a file beside the model."""
    text = """
    <ir_version: 8, opset_import: ["" : 16]>
    mlp (float[n,32] x) => (float[n,8] y) {
      h = Gemm (x, w1, b1)
      a = Tanh (h)
      y = Gemm (a, w2)
    }"""
    model = _model(text)
    data = b""
    for name, array in (("w1", _floats(32, 24)), ("b1", _floats(24)), ("w2", _floats(24, 8))):
        tensor = model.graph.initializer.add(name=name, dims=array.shape)
        tensor.data_type = onnx.TensorProto.FLOAT
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": "weights.bin", "offset": len(data), "length": array.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        data += array.tobytes()
    return Files(model.SerializeToString(), {"weights.bin": data})


def recurrent() -> Files:
    """An LSTM and a GRU with sequence lengths, a Resize, a Pad and a Slice."""
    text = """
    <ir_version: 8, opset_import: ["" : 15]>
    sound (float[steps,batch,6] x, float[1,batch,5] h) => (float[a,b,c,d] y, float[e,f,g] z) {
      l, lh, lc = LSTM <hidden_size = 5> (x, w, r, , , h)
      u, uh = GRU <hidden_size = 5, linear_before_reset = 1> (x, gw, gr)
      both = Add (l, u)
      pads = Constant <value_ints = [0,0,1,1,0,0,1,1]> ()
      padded = Pad <mode = "edge"> (both, pads)
      scales = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()
      y = Resize <mode = "nearest"> (padded, , scales)
      starts = Constant <value_ints = [1]> ()
      ends = Constant <value_ints = [9223372036854775807]> ()
      axes = Constant <value_ints = [2]> ()
      z = Slice (lh, starts, ends, axes)
    }"""
    model = _model(
        text, w=_floats(1, 20, 6), r=_floats(1, 20, 5), gw=_floats(1, 15, 6), gr=_floats(1, 15, 5)
    )
    return Files(model.SerializeToString())


def quantized() -> Files:
    """Weights of int8 and int4 behind DequantizeLinear, one tensor for each channel."""
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    q (float[n,16] x) => (float[n,4] y, uint8[n,4] z) {
      xq = QuantizeLinear (x, scale, zero)
      xd = DequantizeLinear (xq, scale, zero)
      wd = DequantizeLinear <axis = 1> (w8, scales)
      h = MatMul (xd, wd)
      vd = DequantizeLinear <axis = 0, block_size = 4> (w4, blocks)
      y = MatMul (h, vd)
      z = QuantizeLinear (y, scale, zero)
    }"""
    rng = np.random.default_rng(0)
    model = _model(
        text,
        scale=np.array(0.05, np.float32),
        zero=np.array(128, np.uint8),
        w8=rng.integers(-128, 127, (16, 8), np.int8),
        scales=np.abs(_floats(8)) / 50,
        blocks=np.abs(_floats(2, 4)),
    )
    packed = rng.integers(0, 255, 16, np.uint8).tobytes()
    model.graph.initializer.add(
        name="w4", data_type=onnx.TensorProto.INT4, dims=(8, 4), raw_data=packed
    )
    return Files(model.SerializeToString())


def oddities() -> Files:
    """Sequences, optionals, strings, sparse initializers, metadata, overridable initializers."""
    text = """
    <ir_version: 8, opset_import: ["" : 18, "ai.onnx.ml" : 3],
     doc_string: "odd", metadata_props: ["author": "nobody"]>
    odd (float[n,4] x, float[4] bias, string[k] words) => (float[n,4] y, float[n,8] z, int64[m] ids)
    {
      s = SequenceConstruct (x, x)
      i = Constant <value = int64 {1}> ()
      e = SequenceAt (s, i)
      o = Optional (e)
      g = OptionalGetElement (o)
      b = Add (g, bias)
      eye = Constant <sparse_value = float[4,4] {0: 1.0, 5: 1.0}> ()
      y = Identity (b)
      z = ConcatFromSequence <axis = 1> (s)
      ids = ai.onnx.ml.LabelEncoder <keys_strings = ["a", "b"], values_int64s = [1, 2]> (words)
    }"""
    text = text.replace(
        "      eye = Constant <sparse_value = float[4,4] {0: 1.0, 5: 1.0}> ()\n", ""
    )
    model = _model(text, bias=_floats(4))
    sparse = model.graph.sparse_initializer.add(dims=(4, 4))
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), "eye"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, 5]), "eye_indices"))
    return Files(model.SerializeToString())


def direction() -> Files:
    """A real model of 566 nodes."""
    return Files(models.text_direction().read_bytes())


def voice() -> Files:
    """A real model: a recurrent network within the branches of an If."""
    return Files(models.silero_vad().read_bytes())


SEEDS: tuple[Callable[[], Files], ...] = (
    convolutions,
    attention,
    branches,
    functions,
    external,
    recurrent,
    quantized,
    oddities,
)
LARGE_SEEDS: tuple[Callable[[], Files], ...] = (direction, voice)
