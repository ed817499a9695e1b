"""Programs of models, control flow and nested derivatives, and single operations where a convention decides."""
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

inf, nan = np.inf, np.nan
V = (4,)


def define(add, edge):
    models(add)
    attentions(add)
    loops(add)
    branches(add)
    nested(add)
    edges(edge)


def models(add):
    add("mlp_tanh", lambda x, a, b, c: jnp.tanh(x @ a + b) @ c, (2, 2), (2, 3), (3,), (3, 1))
    add("mlp_relu", lambda x, a, b, c: jax.nn.relu(x @ a + b) @ c, (2, 2), (2, 3), (3,), (3, 1))
    add("mlp_deep", lambda x, a, b, c: jnp.sin(jax.nn.softplus(jnp.tanh(x @ a) @ b) @ c), (1, 2), (2, 2), (2, 2), (2, 2))
    add("residual_block", lambda x, a, b: x + jax.nn.gelu(x @ a, approximate=False) @ b, (2, 2), (2, 3), (3, 2))
    add("gated_unit", lambda x, a, b: jax.nn.sigmoid(x @ a) * jnp.tanh(x @ b), (2, 2), (2, 2), (2, 2))
    add("mixture_of_experts", experts, (2,), (2, 3), (3, 2, 2))
    add("autoencoder", lambda x, w: jnp.mean((jnp.tanh(x @ w) @ w.T - x) ** 2), (3, 3), (3, 2))
    add("transformer_block", transformer, (3, 2), (2, 6), (2, 2), low=-1, high=1)
    add("logistic_regression", logistic_regression, (3, 2), (2,), (1,))
    add("polynomial", lambda x, c: jnp.mean((c[0] + c[1] * x + c[2] * x ** 2 + c[3] * x ** 3 - jnp.sin(x)) ** 2), (5,), V)
    add("rosenbrock", lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), (4,))
    add("pairwise_energy", pairwise_energy, (3, 2))
    add("kernel_regression", kernel_regression, (3,), (3,), (1,))
    add("message_passing", message_passing, (3, 2), (2, 2))
    add("normalising_flow", flow, (3,), (3,), (3,))


def attentions(add):
    square, cross, grouped = [(3, 2, 2)] * 3, [(2, 2, 3), (4, 2, 3), (4, 2, 3)], [(2, 4, 2), (3, 2, 2), (3, 2, 2)]
    open_ = np.array([[True, False, True, True], [True, True, False, False]])
    cases = {
        "dot_product_attention": (square, {}),
        "dot_product_attention_cross": (cross, {}),
        "dot_product_attention_causal": (square, {"is_causal": True}),
        "dot_product_attention_grouped": (grouped, {}),
        "dot_product_attention_masked": (cross, {"mask": open_[None, None]}),
        "dot_product_attention_scale": (cross, {"scale": 0.3}),
        "dot_product_attention_masked_grouped_causal": (
            [(3, 4, 2), (3, 2, 2), (3, 2, 2)],
            {"mask": np.tri(3, k=1, dtype=bool).T[None, None] | np.eye(3, dtype=bool), "is_causal": True},
        ),
    }
    for name, (shapes, options) in cases.items():
        agrees_with_jax(shapes, options)
        add(name, lambda *args, options=options: attention(*args, **options), *shapes)
    agrees_with_jax(cross, {"bias": np.linspace(-1, 1, 16).reshape(1, 2, 2, 4)})
    add("dot_product_attention_bias", lambda q, k, v, bias: attention(q, k, v, bias=bias[None]), *cross, (2, 2, 4))


def attention(q, k, v, bias=None, mask=None, is_causal=False, scale=None):
    """What `jax.nn.dot_product_attention` is of positions, heads and features, all in the operands' own precision."""
    (queries, heads, d), (keys, shared, _) = q.shape, k.shape
    k, v = (jnp.repeat(x, heads // shared, axis=1) for x in (k, v))
    scores = jnp.einsum("qhd,khd->hqk", q, k) * (d ** -0.5 if scale is None else scale)
    scores = scores if bias is None else scores + bias[0]
    seen = np.ones((1, queries, keys), bool) if mask is None else mask[0]
    seen = seen & np.tri(queries, keys, dtype=bool) if is_causal else seen
    return jnp.einsum("hqk,khe->qhe", jax.nn.softmax(jnp.where(seen, scores, -inf), axis=-1), v)


def agrees_with_jax(shapes, options):
    """JAX takes its softmax in single precision whatever the operands, so that it agrees to that only."""
    rng = np.random.default_rng(5)
    args = [jnp.asarray(rng.uniform(-2, 2, s)) for s in shapes]
    weights = jnp.asarray(rng.uniform(-1, 1, (shapes[0][0], shapes[0][1], shapes[2][2])))

    def both(f):
        return jax.value_and_grad(lambda *args: jnp.sum(f(*args) * weights), argnums=(0, 1, 2))(*args)

    theirs = both(lambda q, k, v: jax.nn.dot_product_attention(q[None], k[None], v[None], **options)[0])
    ours = both(lambda q, k, v: attention(q, k, v, **options))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs)):
        assert np.allclose(a, b, 1e-5, 1e-5), f"{a} is not what JAX has: {b}"


def experts(x, gates, weights):
    return jnp.einsum("e,eo->o", jax.nn.softmax(x @ gates), jnp.tanh(jnp.einsum("i,eio->eo", x, weights)))


def transformer(x, wqkv, w):
    q, k, v = jnp.split(x @ wqkv, 3, axis=1)
    x = x + jax.nn.softmax(q @ k.T / np.sqrt(2.0), axis=-1) @ v
    d = x - x.mean(-1, keepdims=True)
    return x + jax.nn.silu(d * lax.rsqrt((d * d).mean(-1, keepdims=True) + 0.1) @ w)


def logistic_regression(x, w, b):
    z = x @ w + b
    return jnp.mean(jax.nn.softplus(z) - z * jnp.array([1.0, 0.0, 1.0])) + 0.1 * jnp.sum(w * w)


def pairwise_energy(x):
    d = x[:, None] - x[None]
    r2 = jnp.sum(d * d, -1) + 0.1
    return jnp.sum(jnp.triu(1 / r2 ** 3 - 1 / r2, 1))


def kernel_regression(x, y, at):
    w = jnp.exp(-((at[0] - x) ** 2))
    return w @ y / w.sum()


def message_passing(x, w):
    senders, receivers = jnp.array([0, 1, 2, 2]), jnp.array([1, 2, 0, 1])
    return jnp.tanh(jnp.zeros((3, 2)).at[receivers].add(jnp.take(x @ w, senders, axis=0)) + x)


def flow(x, s, t):
    scale = jnp.tanh(s)
    y = x * jnp.exp(scale) + t
    return 0.5 * jnp.sum(y * y) - jnp.sum(scale)


def loops(add):
    add("rnn", rnn, (3, 2), (2, 2), (2, 2))
    add("rnn_reversed", lambda xs, u, w: rnn(xs, u, w, reverse=True), (3, 2), (2, 2), (2, 2))
    add("rnn_unrolled", lambda xs, w: lax.scan(
        lambda h, x: (jnp.tanh(h * w + x), h * x), jnp.zeros(2), xs, unroll=2)[1], (5, 2), (2,))
    add("gru", gru, (3, 1), (1, 6), (2, 6))
    add("lstm", lstm, (2, 1), (1, 8), (2, 8))
    add("scan_tree", scan_tree, (3,), (3, 2))
    add("scan_times", lambda x, a: lax.scan(lambda c, _: (jnp.sin(c) * a, c * a), x, None, length=4)[1], (2,), (2,))
    add("scan_nested", scan_nested, (2, 3))
    add("scan_captures", lambda xs, a, b: lax.scan(lambda c, x: (c * jnp.exp(a) + x @ b, c * x), 0.5, xs)[1], (3, 2), (), (2,))
    add("scan_of_indices", lambda x: lax.scan(lambda c, i: (c * x[i] + 1, c + x[i]), 1.0, jnp.array([2, 0, 1, 2]))[1], (3,))
    add("scan_polynomial", lambda c, x: lax.scan(lambda acc, a: (acc * x + a, None), jnp.zeros(2), c)[0], (4,), (2,))
    add("scan_of_matrices", lambda a: lax.scan(lambda p, m: (p @ m, p[0]), jnp.eye(2), a)[1], (3, 2, 2))
    add("hidden_markov", hidden_markov, (2, 2), (2, 3))
    add("kalman_filter", kalman, (4,), (2,))
    add("viterbi", viterbi, (3, 2), (2, 2))
    add("euler_steps", euler, (2,), (2,))
    add("leapfrog", leapfrog, (2,), (2,))
    add("momentum_descent", momentum, (2,), (2,), ())
    add("fori_power", lambda x: lax.fori_loop(0, 4, lambda i, y: y * x + i, jnp.ones(3)), (3,))
    add("fori_index", lambda x: lax.fori_loop(0, 4, lambda i, s: jnp.sin(s + x[i]) * (i + 1), 0.5), (4,))
    add("fori_tree", fori_tree, (2,), (2,))
    add("fori_update", lambda x: lax.fori_loop(1, 4, lambda i, y: y.at[i].add(y[i - 1] ** 2), x), (4,))
    add("fori_empty", lambda x: lax.fori_loop(3, 3, lambda i, y: y * x, x * 2), (2,))
    add("fori_given", lambda x: lax.fori_loop(0, jnp.sum(x > 0) + 1, lambda i, y: y * jnp.cos(y) + i, x), V, forward=True)
    add("while_newton", while_newton, (3,), low=0.5, high=9, forward=True)
    add("while_doubling", lambda x: lax.while_loop(lambda y: y < 50, lambda y: y * y + 1, x), (), low=0.1, forward=True)
    add("while_tree", while_tree, (3,), (), low=0.2, forward=True)
    add("while_any", lambda x: lax.while_loop(lambda y: jnp.any(y > 0.5), lambda y: jnp.sin(y) * 0.75, x), (3,), forward=True)
    add("while_in_scan", while_in_scan, (3,), low=0.2, forward=True)
    add("associative_sum", lambda x: lax.associative_scan(jnp.add, jnp.sin(x)), (7,))
    add("associative_affine", associative_affine, (5,), (5,))
    add("associative_matrices", lambda a: lax.associative_scan(jnp.matmul, a), (3, 2, 2))
    add("associative_max", lambda x: lax.associative_scan(jnp.maximum, x * x), (6,))
    add("map_rows", lambda x: lax.map(lambda r: jnp.linalg.norm(r) * r, x), (3, 2))
    add("map_tree", lambda x, y: lax.map(lambda r: jnp.exp(r[0]) @ r[1], (x, y)), (3, 2), (3, 2))
    add("checkpointed_scan", lambda xs, w: lax.scan(jax.checkpoint(lambda h, x: (jnp.tanh(w @ h + x), h)), jnp.ones(2), xs)[0],
        (3, 2), (2, 2))


def rnn(xs, u, w, reverse=False):
    def step(h, x):
        h = jnp.tanh(x @ u + h @ w)
        return h, h * h
    h, ys = lax.scan(step, jnp.full(2, 0.25), xs, reverse=reverse)
    return jnp.concatenate([ys, h[None]])


def gru(xs, u, w):
    def step(h, x):
        a, b = x @ u, h @ w
        z, r = jax.nn.sigmoid(a[:2] + b[:2]), jax.nn.sigmoid(a[2:4] + b[2:4])
        return (1 - z) * h + z * jnp.tanh(a[4:] + r * b[4:]), None
    return lax.scan(step, jnp.zeros(2), xs)[0]


def lstm(xs, u, w):
    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ u + h @ w, 4)
        c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h
    (_, c), hs = lax.scan(step, (jnp.full(2, 0.5), jnp.zeros(2)), xs)
    return jnp.concatenate([hs, c[None]])


def scan_tree(a, b):
    def step(carry, x):
        (p, q), (s, v) = carry, x
        return (p * s + q.sum(), jnp.sin(q) + v * p), (q * s, p)
    (p, q), (rows, ps) = lax.scan(step, (1.0, jnp.array([0.5, -0.5])), (a, b))
    return jnp.concatenate([p[None], q, rows.reshape(-1), ps])


def scan_nested(x):
    def row(total, xs):
        inner, ys = lax.scan(lambda c, x: (jnp.tanh(c + x * total), c * x), 0.1, xs)
        return total + inner, ys
    total, ys = lax.scan(row, 1.0, x)
    return ys * total


def hidden_markov(transition, emission):
    t, e = jax.nn.log_softmax(transition), jax.nn.log_softmax(emission)
    def step(alpha, symbol):
        return jax.scipy.special.logsumexp(alpha[:, None] + t, axis=0) + e[:, symbol], None
    alpha, _ = lax.scan(step, jnp.log(jnp.array([0.5, 0.5])), jnp.array([0, 2, 1]))
    return jax.scipy.special.logsumexp(alpha)


def kalman(ys, logs):
    q, r = jnp.exp(logs[0]), jnp.exp(logs[1])
    def step(carry, y):
        m, p = carry
        p = p + q
        s = p + r
        gain, d = p / s, y - m
        return (m + gain * d, (1 - gain) * p), 0.5 * (d * d / s + jnp.log(s))
    return lax.scan(step, (0.0, 1.0), ys)[1]


def viterbi(scores, transition):
    return lax.scan(lambda best, s: (jnp.max(best[:, None] + transition, axis=0) + s, best), jnp.zeros(2), scores)[0]


def euler(x, a):
    def step(x, _):
        x = x + 0.1 * (a * x[::-1] - x ** 3)
        return x, x
    return lax.scan(step, x, None, length=5)[1]


def leapfrog(q, p):
    def step(_, s):
        q, p = s
        p = p - 0.05 * jnp.sin(q)
        q = q + 0.1 * p
        return q, p - 0.05 * jnp.sin(q)
    return jnp.stack(lax.fori_loop(0, 4, step, (q, p)))


def momentum(x, target, rate):
    def step(carry, _):
        x, m = carry
        m = 0.5 * m + jax.grad(lambda x: jnp.sum((x * x - target) ** 2))(x)
        return (x - 0.02 * jax.nn.sigmoid(rate) * m, m), jnp.sum(x)
    (x, _), sums = lax.scan(step, (x, jnp.zeros(2)), None, length=3)
    return jnp.concatenate([x, sums])


def fori_tree(x, y):
    a, b = lax.fori_loop(1, 4, lambda i, s: (s[0] * s[1], s[0] + s[1] / i), (x, y))
    return a * b


def while_newton(a):
    def step(s):
        i, x = s
        return i + 1, 0.5 * (x + a / x)
    return lax.while_loop(lambda s: (s[0] < 20) & (jnp.max(jnp.abs(s[1] ** 2 - a)) > 1e-9), step, (0, a))[1]


def while_tree(x, limit):
    n, x = lax.while_loop(lambda s: jnp.sum(s[1]) < 20 * (1 + limit), lambda s: (s[0] + 1, s[1] * (1 + limit) + 0.1), (0, x))
    return x * n


def while_in_scan(xs):
    return lax.scan(lambda c, x: (lax.while_loop(lambda y: y < 3, lambda y: y * (1 + x), c) - 2, c), 1.0, xs)[1]


def associative_affine(a, b):
    return jnp.stack(lax.associative_scan(lambda f, g: (f[0] * g[0], f[1] * g[0] + g[1]), (a, b)))


def branches(add):
    signs = [[0.5, -1.25], [-0.75, 2.0], [1.5, 0.25], [-1.0, -0.5]]
    add("cond", lambda x: lax.cond(x[0] > 0, lambda: jnp.sin(x), lambda: x * x), (2,), rows=signs)
    add("cond_taken", lambda x: lax.cond(jnp.array(True), lambda: jnp.sin(x), lambda: x * x), (2,))
    add("cond_not_taken", lambda x: lax.cond(jnp.array(False), lambda: jnp.sin(x), lambda: x * x), (2,))
    add("cond_tree", cond_tree, (2,), rows=signs)
    add("cond_nested", lambda x: lax.cond(x[0] > 0, lambda: lax.cond(x[1] > 0, lambda: x ** 3, lambda: jnp.exp(x)),
                                          lambda: x[::-1] * x), (2,), rows=signs)
    add("cond_constant_branch", lambda x: lax.cond(x[0] > 0, lambda: jnp.ones(2), lambda: x * x[1]) * x, (2,), rows=signs)
    add("cond_of_sums", lambda x, w: lax.cond(jnp.sum(x) > 0, lambda: w @ x, lambda: x @ w), (2,), (2, 2))
    add("cond_out_of_domain", lambda x: lax.cond(x[0] > 0, lambda: jnp.log(x[0]), lambda: x[1] ** 2), (2,), rows=signs)
    add("switch", lambda x: lax.switch(jnp.floor(x[0]).astype(int), [lambda: x, lambda: x ** 3, lambda: jnp.exp(-x)]), (2,),
        rows=[[0.5, 1.25], [1.5, -1.0], [2.25, 0.5], [7.5, -0.25], [-3.5, 0.75]])
    add("cond_in_scan", cond_in_scan, (5,))
    add("switch_in_scan", switch_in_scan, (4,), (2,))
    add("scan_in_cond", lambda x: lax.cond(x[0] > 0, lambda: lax.scan(lambda c, y: (c * y + 1, None), 1.0, x)[0],
                                           lambda: jnp.sum(x)), (2,), rows=signs)
    add("cond_in_while", cond_in_while, (2,), low=0.3, forward=True)
    add("cond_in_fori", lambda x: lax.fori_loop(0, 4, lambda i, y: lax.cond(i % 2 == 0, lambda: y * x, lambda: y + jnp.sin(x)), x), (2,))
    add("while_in_cond", lambda x: lax.cond(x[0] > 0, lambda: lax.while_loop(lambda y: jnp.abs(y[0]) < 9, lambda y: y * 3, x), lambda: x * x),
        (2,), rows=signs, forward=True)
    add("clipped_ratio", lambda x: lax.cond(jnp.abs(x[1]) > 0.3, lambda: x[0] / x[1], lambda: x[0]), (2,), rows=signs)


def cond_tree(x):
    s, v = lax.cond(x[0] > x[1], lambda: (x.sum(), x * 2), lambda: (x.prod(), jnp.cos(x)))
    return s * v


def cond_in_scan(xs):
    def step(c, x):
        c = lax.cond(x > 0, lambda: c * x, lambda: jnp.sin(c) + x)
        return c, lax.cond(c > 1, lambda: c * c, lambda: x)
    return lax.scan(step, 1.5, xs)[1]


def switch_in_scan(xs, w):
    def step(c, row):
        i, x = row
        return lax.switch(i, [lambda: c * w[0] + x, lambda: c * x, lambda: jnp.tanh(c + w[1])]), c
    return lax.scan(step, 0.5, (jnp.array([2, 0, 1, 2]), xs))[1]


def cond_in_while(x):
    def body(s):
        i, y = s
        return i + 1, lax.cond(y[0] > y[1], lambda: y * jnp.array([0.5, 1.5]), lambda: y + x)
    return lax.while_loop(lambda s: s[0] < 5, body, (0, x))[1]


def nested(add):
    net = lambda x, w: jnp.tanh(w @ x) @ x
    m = (2, 2)
    add("gradient_penalty", lambda x, w: (jnp.linalg.norm(jax.grad(net)(x, w)) - 1) ** 2, (2,), m)
    add("newton_step", newton_step, (2,), ())
    add("gradient_step", lambda x, w: net(x - 0.1 * jax.grad(net)(x, w), w), (2,), m)
    add("inner_loop", inner_loop, (2,), (3,))
    add("grad_in_scan", grad_in_scan, (3, 2), m)
    add("jvp_in_vmap", lambda x, v: jax.vmap(lambda x, v: jax.jvp(lambda x: jnp.sin(x) * x.sum(), (x,), (v,))[1])(x, v), m, m)
    add("vmap_in_grad", lambda x, w: jax.grad(lambda w: jax.vmap(lambda r: jnp.tanh(r @ w) ** 2)(x).sum())(w), (3, 2), (2,))
    add("grad_in_vmap", lambda x, w: jax.vmap(lambda r: jax.grad(lambda w: jnp.sin(r @ w))(w))(x), (3, 2), (2,))
    add("vmap_of_vmap", lambda x, y: jax.vmap(lambda a: jax.vmap(lambda b: jnp.exp(-jnp.sum((a - b) ** 2)))(y))(x), (2, 2), (3, 2))
    add("vmap_columns", lambda x: jax.vmap(lambda c: jax.nn.softmax(c) @ c, in_axes=1)(x), (2, 3))
    add("hessian_vector_product", lambda x, v: jax.jvp(jax.grad(lambda x: jnp.sum(jnp.exp(x) * x[::-1])), (x,), (v,))[1], (3,), (3,))
    add("hessian_trace", lambda x: jnp.trace(jax.hessian(lambda x: jnp.sum(x ** 4) * x[0])(x)), (3,))
    add("jacobian_columns", lambda x: jax.jacfwd(lambda x: jnp.stack([x[0] * x[1], jnp.sin(x[0])]))(x), (2,))
    add("jacobian_rows", lambda x: jax.jacrev(lambda x: jnp.stack([x[0] * x[1], jnp.sin(x[0])]))(x), (2,))
    add("vjp", lambda x, c: jax.vjp(lambda x: jnp.cumsum(x ** 3), x)[1](c)[0], (3,), (3,))
    add("third_derivative", lambda x: jax.grad(jax.grad(jax.grad(lambda x: jnp.sin(x) * jnp.exp(x / 2))))(x), ())
    add("mixed_partials", lambda x, y: jax.grad(lambda y: jax.grad(lambda x: jnp.sin(x * y) * y)(x))(y), (), ())
    add("laplacian", lambda x: jnp.sum(jax.vmap(lambda v: jax.jvp(lambda z: jax.jvp(
        lambda z: jnp.exp(-z @ z), (z,), (v,))[1], (x,), (v,))[1])(jnp.eye(2))), (2,))
    add("fisher_information", lambda x: jax.vmap(lambda r: jnp.outer(*[jax.grad(jax.nn.logsumexp)(r)] * 2))(x).sum(0), (3, 2))
    add("gradient_norms", lambda x, w: jax.vmap(lambda r: jnp.linalg.norm(jax.grad(lambda w: (r @ w) ** 2)(w)))(x), (3, 2), (2,))
    add("grad_of_cond", lambda x: jax.grad(lambda x: lax.cond(x[0] > 0, lambda: x[0] ** 3 * x[1], lambda: jnp.sum(jnp.sin(x))))(x), (2,),
        rows=[[0.5, -1.25], [-0.75, 2.0], [1.5, 0.25]])
    add("grad_of_scan", lambda x, w: jax.grad(lambda x: lax.scan(lambda c, x: (jnp.sin(c * w + x), c * x), 0.5, x)[1].sum())(x), (3,), ())
    add("jvp_of_while", lambda x: jax.jvp(lambda x: lax.while_loop(lambda y: y < 9, lambda y: y * y + x, x), (x,), (x * 0 + 1,))[1],
        (), low=0.6, forward=True)
    add("jvp_of_fori", lambda x, v: jax.jvp(lambda x: lax.fori_loop(0, 3, lambda i, y: jnp.sin(y) * x, x), (x,), (v,))[1], (2,), (2,))
    add("stop_gradient", lambda x: lax.stop_gradient(x * x) * x, V, smooth=False)
    add("straight_through", lambda x: (x + lax.stop_gradient(jnp.round(x) - x)) ** 2, V, smooth=False)
    add("detached_target", lambda x, w: jnp.sum((jnp.tanh(x * w) - lax.stop_gradient(x * w * w)) ** 2), (3,), (3,), smooth=False)
    add("score_function", lambda x: jnp.sum(lax.stop_gradient(x * x) * jax.nn.log_softmax(x)), V, smooth=False)
    add("checkpoint", lambda x, w: jax.checkpoint(lambda x: jnp.sin(w @ jnp.sin(w @ x)))(x), (2,), m)
    add("implicit_root", implicit_root, (3,), low=0.5, high=4)


def newton_step(x, a):
    f = lambda x: jnp.sum(jnp.cosh(x)) + a * x[0] * x[1] * 0.25
    g, h = jax.grad(f)(x), jax.hessian(f)(x)
    det = h[0, 0] * h[1, 1] - h[0, 1] * h[1, 0]
    return x - jnp.stack([h[1, 1] * g[0] - h[0, 1] * g[1], h[0, 0] * g[1] - h[1, 0] * g[0]]) / det


def inner_loop(w, xs):
    loss = lambda w, x: (jnp.tanh(w[0] * x) + w[1] - x * x) ** 2
    return jax.vmap(lambda x: loss(w - 0.1 * jax.grad(loss)(w, x), x))(xs)


def grad_in_scan(xs, w):
    net = lambda x, w: jnp.tanh(w @ x) @ x
    return lax.scan(lambda c, x: (c - 0.1 * jax.grad(net)(x, w) * c, c * x), jnp.ones(2), xs)[1]


def implicit_root(a):
    # One corrected step from a detached root: its value is the root, and its slope the implicit one.
    y = lax.stop_gradient(jnp.sqrt(a))
    return y - (y * y - a) / lax.stop_gradient(2 * y)


def edges(edge):
    # Not at 0 and NaN, where JAX's slope of abs is 1 and -1 (a choice by x >= 0) and lehr's are 0 and NaN (the sign).
    edge("edge_abs", jnp.abs, [-1.0, 2.0, inf, -inf])
    edge("edge_sign", lambda x: jnp.sign(x) * x, [-1.0, -0.0, 0.0, 2.0, nan])
    edge("edge_sqrt", jnp.sqrt, [0.0, 4.0, -1.0, inf, nan])
    edge("edge_rsqrt", lax.rsqrt, [0.0, 4.0, -1.0, inf])
    edge("edge_cbrt", jnp.cbrt, [0.0, -8.0, 1.0])
    edge("edge_log", jnp.log, [0.0, 1.0, -1.0, inf, nan])
    edge("edge_log2", jnp.log2, [0.0, 1.0, -1.0, inf])
    edge("edge_log1p", jnp.log1p, [-1.0, 0.0, -2.0, inf])
    edge("edge_exp", jnp.exp, [-inf, inf, -1000.0, 1000.0, nan, 0.0])
    edge("edge_expm1", jnp.expm1, [-inf, inf, -1000.0, 1000.0, 0.0])
    edge("edge_sin", lambda x: jnp.sin(x) + jnp.cos(x), [0.0, -0.0, inf, nan])
    edge("edge_asin", jnp.arcsin, [-1.0, 1.0, 0.0, 1.5])
    edge("edge_acos", jnp.arccos, [-1.0, 1.0, 0.0, 1.5])
    edge("edge_atan", jnp.arctan, [-inf, inf, 0.0])
    edge("edge_acosh", jnp.arccosh, [1.0, 2.0, 0.5])
    edge("edge_atanh", jnp.arctanh, [-1.0, 1.0, 0.0, 1.5])
    edge("edge_tanh", jnp.tanh, [-inf, inf, 0.0, 100.0, nan])
    edge("edge_sigmoid", jax.nn.sigmoid, [-inf, inf, -800.0, 800.0, 0.0])
    edge("edge_erf", lambda x: jax.scipy.special.erf(x) + jax.scipy.special.erfc(x), [-inf, inf, 0.0, 30.0])
    edge("edge_round", lambda x: jnp.round(x) + jnp.floor(x) + jnp.ceil(x) + jnp.trunc(x), [0.5, 1.5, -0.5, -2.5, 2.0, -0.0])
    edge("edge_div", lambda x: x[:6] / x[6:], [1.0, 0.0, -1.0, 0.0, inf, 3.0, 0.0, 0.0, 0.0, 2.0, inf, inf])
    edge("edge_reciprocal", jnp.reciprocal, [0.0, -0.0, inf, nan, 2.0])
    edge("edge_rem", lambda x: lax.rem(x[:5], x[5:]), [5.0, -5.0, 0.0, 4.0, 1.0, 3.0, 3.0, 2.0, 2.0, inf])
    edge("edge_remainder", lambda x: jnp.remainder(x[:5], x[5:]), [5.0, -5.0, 0.0, -4.0, 3.0, -3.0, 3.0, 2.0, 2.0, -2.0])
    edge("edge_floor_divide", lambda x: jnp.floor_divide(x[:4], x[4:]), [6.0, -6.0, 7.0, -7.0, 3.0, 3.0, -2.0, 2.0])
    tenth, fifth = float(np.float32(0.1)), float(np.float32(0.2))
    edge("edge_floor_divide_of_a_quotient_rounded_up", lambda x: jnp.floor_divide(x[:3], x[3:]), [1.0, 1.0, -1.0, tenth, fifth, tenth])
    edge("edge_maximum", lambda x: jnp.maximum(x[:5], x[5:]), [1.0, 2.0, 0.0, nan, -inf, 1.0, 3.0, -0.0, 1.0, -inf])
    edge("edge_minimum", lambda x: jnp.minimum(x[:5], x[5:]), [1.0, 2.0, 0.0, nan, inf, 1.0, 3.0, -0.0, 1.0, inf])
    edge("edge_reduce_max", lambda x: jnp.max(x.reshape(2, 3), axis=1), [1.0, 3.0, 3.0, 2.0, 2.0, 2.0])
    edge("edge_reduce_min", lambda x: jnp.min(x.reshape(2, 3), axis=1), [1.0, 1.0, 3.0, 2.0, 2.0, 2.0])
    # The rule divides 0 by 0 here; whether JAX gives NaN or 0 depends on what XLA simplifies, so only the value is compared.
    edge("edge_reduce_max_nan", lambda x: lax.stop_gradient(jnp.max(x)), [1.0, nan, 3.0])
    edge("edge_argmax", lambda x: jnp.argmax(x.reshape(3, 3), axis=1) + jnp.argmin(x.reshape(3, 3), axis=1) * 5,
         [1.0, 3.0, 3.0, nan, 2.0, 1.0, 0.0, -0.0, 0.0])
    edge("edge_cummax", lax.cummax, [1.0, 1.0, 2.0, 2.0, 0.0])
    edge("edge_relu", jax.nn.relu, [-1.0, -0.0, 0.0, 2.0, inf, -inf])
    # Not jax.nn.relu6, which has a rule of its own: its slope is 0 at both ends.
    edge("edge_relu6", lambda x: jnp.minimum(jnp.maximum(x, 0), 6), [-1.0, 0.0, 6.0, 7.0])
    edge("edge_leaky_relu", lambda x: jax.nn.leaky_relu(x, 0.25), [-1.0, -0.0, 0.0, 2.0])
    edge("edge_elu", lambda x: jax.nn.elu(x, 0.75), [-1.0, 0.0, 2.0, 1000.0, -1000.0])
    edge("edge_gelu", lambda x: jax.nn.gelu(x, approximate=False), [0.0, 100.0, -100.0])
    edge("edge_silu", jax.nn.silu, [0.0, 800.0, -800.0])
    edge("edge_softplus", jax.nn.softplus, [0.0, 800.0, -800.0, inf, -inf])
    edge("edge_log_sigmoid", jax.nn.log_sigmoid, [0.0, 800.0, -800.0])
    edge("edge_clip", lambda x: jnp.clip(x, -1.0, 2.0), [-1.0, 2.0, 0.0, -3.0, 5.0, nan])
    edge("edge_clip_crossed", lambda x: jnp.clip(x, 2.0, -1.0), [-1.0, 2.0, 0.0])
    edge("edge_pow_zero_exponent", lambda x: x ** 0, [0.0, 1.0, -2.0, inf], smooth=False)
    edge("edge_pow_whole", lambda x: x ** 2 + x ** 3 + x ** 4 + x ** 1, [0.0, 1.0, -2.0], smooth=True)
    edge("edge_pow_whole_exponents", lambda x: jnp.power(x, jnp.array([0, 1, 2, 3])), [0.0, 0.0, 0.0, 0.0], [-1.0, -2.0, 0.0, -0.5])
    edge("edge_pow_zero_base", lambda x: jnp.power(x[:3], x[3:]), [0.0, 0.0, 0.0, 1.0, 2.0, 0.5])
    edge("edge_pow_root", lambda x: x ** 0.5 + x ** 1.5, [0.0, 1.0, 4.0])
    edge("edge_pow_of_zero", lambda x: jnp.power(0.0, x), [1.0, 2.0, 0.5])
    edge("edge_pow_negative_base", lambda x: jnp.power(x, 3.0) + jnp.power(x, -2.0), [-1.0, -2.0, 0.5])
    edge("edge_square_at_infinity", lambda x: x * x - x, [inf, -inf, nan, 1.0])
    edge("edge_atan2", lambda x: jnp.arctan2(x[:5], x[5:]), [0.0, 0.0, 1.0, -1.0, inf, 0.0, -1.0, 0.0, 0.0, 1.0])
    edge("edge_hypot", lambda x: jnp.sqrt(x[0] ** 2 + x[1] ** 2), [0.0, 0.0])
    edge("edge_norm", jnp.linalg.norm, [0.0, 0.0, 0.0])
    edge("edge_std", jnp.std, [2.0, 2.0, 2.0])
    edge("edge_var", jnp.var, [2.0, 2.0, 2.0], smooth=True)
    edge("edge_prod_one_zero", jnp.prod, [2.0, 0.0, 3.0, 4.0], smooth=True)
    edge("edge_prod_two_zeros", jnp.prod, [2.0, 0.0, 3.0, 0.0], smooth=True)
    edge("edge_prod_three_zeros", lambda x: jnp.prod(x.reshape(2, 3), axis=1), [0.0, 0.0, 0.0, 2.0, 0.0, 0.0], smooth=True)
    edge("edge_prod_infinite", jnp.prod, [2.0, inf, -3.0])
    edge("edge_logsumexp", lambda x: jax.scipy.special.logsumexp(x.reshape(4, 2), axis=1),
         [inf, 0.0, -inf, 0.0, -inf, -inf, 1000.0, 1000.0])
    edge("edge_softmax", lambda x: jax.nn.softmax(x.reshape(3, 2), axis=1), [1000.0, -1000.0, -inf, 0.0, 5.0, 5.0])
    edge("edge_log_softmax", lambda x: jax.nn.log_softmax(x.reshape(2, 2), axis=1), [1000.0, -1000.0, 5.0, 5.0])
    edge("edge_logaddexp", lambda x: jnp.logaddexp(x[:4], x[4:]), [0.0, 1000.0, -inf, 3.0, 0.0, -1000.0, 2.0, 3.0])
    edge("edge_select_trap", lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0), [0.0, -1.0, 4.0])
    edge("edge_select_trap_log", lambda x: jnp.where(x > 0, jnp.log(x), x), [0.0, -1.0, 4.0])
    edge("edge_select_safe", lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0), [0.0, -1.0, 4.0])
    edge("edge_select_nan", lambda x: jnp.where(jnp.isnan(x), 0.0, x * x), [nan, 1.0, inf])
    edge("edge_select_division", lambda x: jnp.where(x != 0, jnp.sin(x) / x, 1.0), [0.0, 1.0])
    edge("edge_compare", lambda x: (x[:5] < x[5:]) + 2 * (x[:5] <= x[5:]) + 4 * (x[:5] == x[5:]) + 8 * (x[:5] != x[5:]),
         [0.0, nan, inf, 1.0, nan, -0.0, nan, inf, 2.0, 0.0])
    edge("edge_is_finite", lambda x: jnp.isfinite(x) + 2 * jnp.isnan(x), [0.0, inf, -inf, nan])
    edge("edge_cond_boundary", lambda x: lax.cond(x[0] > 0, lambda: x * 2, lambda: x * 3), [0.0, 1.0], [1.0, 0.0], smooth=True)
    edge("edge_cond_trap", lambda x: lax.cond(x[0] > 0, lambda: jnp.sqrt(x[0]), lambda: 0 * x[1]), [0.0, 1.0], [4.0, 0.0])
    edge("edge_huber", lambda x: jnp.where(jnp.abs(x) <= 1.0, 0.5 * x * x, jnp.abs(x) - 0.5), [0.0, 1.0, -1.0, 3.0])
    edge("edge_mean_of_infinities", jnp.mean, [inf, 1.0, -inf])
    edge("edge_to_integers", lambda x: x.astype(jnp.int64), [1.75, -1.75, 0.0, -0.0])
    edge("edge_matmul", lambda x: x[:4].reshape(2, 2) @ x[4:], [0.0, 1.0, inf, 2.0, 0.0, 3.0])
    edge("edge_normalise", lambda x: x / jnp.maximum(jnp.sqrt(jnp.sum(x * x)), 1e-6), [3.0, 4.0], [0.0, 0.0])
