"""Topology and relaxation (mathematics 2, 3), dense and obvious; part of naive.py, which explains the conventions."""
import numpy as np

W_INH = -2.0
EXC, INH, NONE = 0, 1, 2


def softmax(x):
    z = np.exp(x - np.max(x))
    return z / z.sum()


def softmax_back(hat, dhat):
    """dalpha_k = hat_k (dhat_k - sum_l hat_l dhat_l)."""
    return hat * (dhat - np.sum(hat * dhat))


def motif_pattern(N, v, inter=True):
    """-> bool (N, N): own motif (itself included), and i - v, i + v inside [0, N)."""
    if N % v:
        raise ValueError(f"motif size {v} does not divide {N} neurons")
    pattern = np.zeros((N, N), bool)
    for i in range(N):
        for r in range(N):
            pattern[i, r] = i // v == r // v or (inter and (r == i - v or r == i + v))
    return pattern


def union_pattern(N, sizes, inter=True):
    return np.any([motif_pattern(N, v, inter) for v in sizes], axis=0)


def connections(N, v, inter=True, tied=True):
    """Row-major list of (i, r, part, index): alphas[v][part][index] is the (3,) alpha of r -> i.

    tied: "intra" (v, v, 3) at (target, source position), "inter" (v, 2, 3) at (position, 0 previous / 1 next).
    untied: "all" (number of connections, 3) at the connection's place in row-major order.
    """
    out = []
    for i, r in zip(*np.nonzero(motif_pattern(N, v, inter))):
        if not tied:
            out.append((i, r, "all", (len(out),)))
        elif i // v == r // v:
            out.append((i, r, "intra", (i % v, r % v)))
        else:
            out.append((i, r, "inter", (i % v, 0 if r == i - v else 1)))
    return out


def effective_matrix(N, sizes, alpha_size, alphas, w_exc, inter=True, tied=True):
    """Section 3 -> W (N, N). alpha_size (|V|,) in the order of sizes; alphas {v: {part: array}}; w_exc (N, N)."""
    hat_size, W = softmax(alpha_size), np.zeros((N, N))
    for k, v in enumerate(sizes):
        for i, r, part, index in connections(N, v, inter, tied):
            exc, inh, _ = softmax(alphas[v][part][index])
            W[i, r] += hat_size[k] * (exc * w_exc[i, r] + inh * W_INH)
    return W


def relaxation_gradients(G, N, sizes, alpha_size, alphas, w_exc, inter=True, tied=True):
    """G = dL/dW (N, N) -> dict: alpha_size (|V|,), alphas (as given), w_exc (N, N), zero off the union pattern."""
    hat_size = softmax(alpha_size)
    dhat_size, dw_exc = np.zeros(len(sizes)), np.zeros((N, N))
    dhat = {v: {part: np.zeros(x.shape) for part, x in alphas[v].items()} for v in sizes}
    dalphas = {v: {part: np.zeros(x.shape) for part, x in alphas[v].items()} for v in sizes}
    for k, v in enumerate(sizes):
        for i, r, part, index in connections(N, v, inter, tied):
            exc, inh, _ = softmax(alphas[v][part][index])
            dhat_size[k] += G[i, r] * (exc * w_exc[i, r] + inh * W_INH)
            dhat[v][part][index][EXC] += G[i, r] * hat_size[k] * w_exc[i, r]
            dhat[v][part][index][INH] += G[i, r] * hat_size[k] * W_INH
            dw_exc[i, r] += G[i, r] * hat_size[k] * exc
        for part, x in alphas[v].items():
            for index in np.ndindex(x.shape[:-1]):
                dalphas[v][part][index] = softmax_back(softmax(x[index]), dhat[v][part][index])
    return dict(alpha_size=softmax_back(hat_size, dhat_size), alphas=dalphas, w_exc=dw_exc)


def discretize(sizes, alpha_size, alphas):
    """Section 14 -> (v, types {part: int array}); ties: the smaller motif; exc before inh before none."""
    best = sorted(range(len(sizes)), key=lambda k: (-alpha_size[k], sizes[k]))[0]
    v = sizes[best]
    return v, {part: np.argmax(x, axis=-1) for part, x in alphas[v].items()}


def architecture_matrix(N, v, types, w_exc, inter=True, tied=True):
    """The discrete layer's W (N, N): w_exc, -2 or 0 by type."""
    W = np.zeros((N, N))
    for i, r, part, index in connections(N, v, inter, tied):
        W[i, r] = {EXC: w_exc[i, r], INH: W_INH, NONE: 0.0}[int(types[part][index])]
    return W
