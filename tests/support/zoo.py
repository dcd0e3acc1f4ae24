"""Small text models that every pass must leave correct."""

from __future__ import annotations

MODELS: dict[str, str] = {
    "shape-arithmetic": """
        g (float[N,M,8] x) => (float[N,M,2,4] y, int64[3] s) {
            s = Shape(x)
            zero = Constant<value_int = 0>()
            one = Constant<value_int = 1>()
            n = Gather(s, zero)
            m = Gather(s, one)
            axes = Constant<value_ints = [0]>()
            n1 = Unsqueeze(n, axes)
            m1 = Unsqueeze(m, axes)
            heads = Constant<value_ints = [2, 4]>()
            target = Concat<axis = 0>(n1, m1, heads)
            y = Reshape(x, target)
        }""",
    "broadcast-of-two-inputs": """
        g (float[N,4] x, float[N,1] b) => (float[N,4] y, float[2,N,2] z)
        <int64[1] minus = {-1}, int64[1] two = {2}>
        {
            sum = Add(x, b)
            s = Shape<start = 0, end = 1>(b)
            target = Concat<axis = 0>(s, minus)
            y = Reshape(sum, target)
            t2 = Concat<axis = 0>(two, s, two)
            z = Reshape(y, t2)
        }""",
    "empty-tensors": """
        g (float[0,3] x, float[K] w) => (float[a,b] y, float[0,3] z, float[c] v)
        <int64[2] keep = {0, -1}, int64[2] real = {3, 0}, float[0,3] none = {}>
        {
            r = Reshape<allowzero = 1>(x, real)
            y = Identity(r)
            z = Concat<axis = 0>(x, none)
            s = Shape(w)
            e = Expand(w, s)
            v = Reshape(e, s)
        }""",
    "if-captures": """
        g (bool c, float[2] x) => (float[2] y)
        <float[2] k = {1, 2}>
        {
            a = Add(x, k)
            y = If (c) <
                then_branch = then () => (float[2] t) {
                    i = Identity(a)
                    two = Constant<value_floats = [2.0, 2.0]>()
                    p = Mul(two, two)
                    t = Mul(i, p)
                },
                else_branch = else () => (float[2] t2) <float[2] k2 = {1, 2}> {
                    b = Add(x, k)
                    t2 = Sub(b, k2)
                }
            >
        }""",
    "if-constant": """
        g (float[2] x) => (float[2] y, float[2] z)
        {
            c = Constant<value = bool {1}>()
            p = Relu(x)
            y, z = If (c) <
                then_branch = then () => (float[2] t, float[2] k) <float[2] k = {1, 2}> {
                    q = Neg(p)
                    t = Abs(q)
                },
                else_branch = else () => (float[2] q, float[2] u) {
                    q = Exp(p)
                    u = Log(p)
                }
            >
        }""",
    "loop": """
        g (float[2] x, int64 n) => (float[2] y, float[k,2] rows)
        <bool yes = {1}, float[2] step = {0.5, 0.5}>
        {
            y, rows = Loop (n, yes, x) <
                body = body (int64 i, bool go, float[2] v) => (bool go2, float[2] v2, float[2] row)
                <float[2] step2 = {0.5, 0.5}> {
                    go2 = Identity(go)
                    a = Add(v, step)
                    b = Add(v, step2)
                    c = Add(a, b)
                    v2 = Identity(c)
                    row = Identity(v)
                }
            >
        }""",
    "functions": """<ir_version: 11, opset_import: ["" : 24, "local" : 1, "unused" : 1]>
        g (float[N,4] x) => (float[N,4] y, float[N,4] z)
        {
            a = local.Scale<factor = 2.0>(x)
            y = local.Scale(a)
            z = local.Twice(x)
        }
        <domain: "local", opset_import: ["" : 24]>
        Scale <factor: float = 3.0> (v) => (w) {
            f = Constant<value_float: float = @factor>()
            one = Constant<value_float = 1.0>()
            g1 = Mul(f, one)
            i = Identity(v)
            w = Mul(i, g1)
        }
        <domain: "local", opset_import: ["" : 24, "local" : 1]>
        Twice (v) => (w) {
            a = local.Scale(v)
            b = local.Scale(v)
            w = Add(a, b)
        }
        <domain: "local", opset_import: ["" : 24]>
        Never (v) => (w) { w = Neg(v) }
        """,
    "overridable-initializer": """
        g (float[2] x, float[2] w = {1, 1}, int64[2] s = {1, 2}) => (float[2] y, float[a,b] z)
        <float[2] v = {1, 1}>
        {
            a = Mul(x, w)
            b = Mul(a, v)
            c = Add(w, w)
            y = Add(b, c)
            z = Reshape(x, s)
        }""",
    "types": """
        g (float16[2,2] h, int8[4] i, string[2] t, bool[2] b, uint8[2] u)
            => (float16[2,2] ho, int32[4] io, string[2] to, bool[2] bo, float[2] uo, string[2] ko)
        <float16[2,2] hk = {1, 1, 1, 1}, int32[1] ik = {3}, int32[1] jk = {-2}>
        {
            h1 = Mul(h, hk)
            h2 = Cast<to = 1>(h1)
            ho = Cast<to = 10>(h2)
            q = Div(ik, jk)
            i1 = Cast<to = 6>(i)
            io = Add(i1, q)
            to = Identity(t)
            b1 = Not(b)
            b2 = Not(b)
            bo = And(b1, b2)
            u1 = Cast<to = 6>(u)
            uo = Cast<to = 1>(u1)
            ko = Constant<value_strings = ["p", "q"]>()
        }""",
    "quantized": """
        g (float[2] x) => (float[2] y)
        <float[2] w = {1, 2}, float scale = {0.5}, int8 zero = {0}>
        {
            qw = QuantizeLinear(w, scale, zero)
            dw = DequantizeLinear(qw, scale, zero)
            qx = QuantizeLinear(x, scale, zero)
            dx = DequantizeLinear(qx, scale, zero)
            y = Mul(dx, dw)
        }""",
    "noops-at-outputs": """
        g (float[2,3] x) => (float[2,3] a, float[2,3] b, float[2,3] c, float[2,3] d)
        <float one = {1.0}, int64[2] own = {2, 3}>
        {
            a = Identity(x)
            r = Relu(x)
            b = Identity(r)
            m = Mul(r, one)
            c = Reshape(m, own)
            n = Neg(x)
            d = Dropout(n)
        }""",
    "duplicates": """
        g (float[2,2] x) => (float[2,2] y, float[2,2] z)
        <float[2,2] k = {1, 2, 3, 4}, float[2,2] l = {1, 2, 3, 4}, float[2,2] m = {1, 2, 3, -0.0},
         float[2,2] o = {1, 2, 3, 0.0}, float[2,2] unread = {5, 5, 5, 5}>
        {
            a = MatMul(x, k)
            b = MatMul(x, l)
            c = Add(a, m)
            d = Add(b, o)
            y = Mul(c, d)
            e = MatMul(x, k)
            z = Relu(e)
            dead = Exp(z)
        }""",
    "chains": """
        g (float[N,1,6] x) => (float[2,3,N] y, float[N,6] z, float[6,N,1] w)
        <int64[2] first = {-1, 6}, int64[3] second = {-1, 2, 3}, int64[1] one = {1}>
        {
            r1 = Reshape(x, first)
            r2 = Reshape(r1, second)
            t1 = Transpose<perm = [0, 2, 1]>(r2)
            y = Transpose<perm = [2, 1, 0]>(t1)
            u = Unsqueeze(x, one)
            s1 = Squeeze(u, one)
            z = Squeeze(s1, one)
            t2 = Transpose<perm = [1, 0, 2]>(x)
            w = Transpose<perm = [2, 1, 0]>(t2)
        }""",
    "optional-inputs-and-outputs": """
        g (float[1,1,4,4] x) => (float[1,1,2,2] y, float[1,1,4,4] z)
        {
            y, places = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x)
            z, mask = Dropout(x, , )
        }""",
}

RANDOM = """
    g (float[2] x) => (float[2] y, float[2] z)
    {
        a = RandomNormal<shape = [2]>()
        b = RandomNormal<shape = [2]>()
        c = RandomNormalLike(x)
        d = RandomNormalLike(x)
        e = Add(a, b)
        y = Add(e, x)
        z = Add(c, d)
    }"""
