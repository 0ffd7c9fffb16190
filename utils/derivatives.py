"""All of calculus that the book needs: one table, each rule beside its function.

A rule says how the gradient `g` that arrives at a function's output goes on to one argument, and
its parameter names say what the graph keeps for it: `y` the output; `a`, `b`, `c` the arguments;
`shape` the shape of the rule's own argument; `axis` and the like what the function was called
with. What no rule names is not kept. Rules mention neither broadcasting nor accumulation, which
the engine undoes, and use only functions that have rules, so the same rule runs on arrays and,
for derivatives of derivatives, on Tensors. None stands for an argument without a derivative; `...`
repeats the rule before it for any number of arguments, of which it may name `i`, the number of this
one, and `args`, all of them.

Where a derivative does not exist the choices are PyTorch's: relu has 0 at 0, `maximum` gives half
to each of two equals, `max` shares evenly among all of them. Values are NumPy's, also where those
of PyTorch differ: the sign of NaN is NaN, and powers of -0 and -inf are the C library's.
"""

from __future__ import annotations

import math
import string

import numpy as np

from utils.primitives import (
    astype,
    clip,
    contract,
    cumsum,
    eigenvalues,
    eigenvectors,
    erf,
    euclidean_norm,
    getitem,
    join,
    log_abs_determinant,
    matrix_product,
    matrix_solve,
    normalize_axes,
    pseudo_inverse,
    relu,
    reshape,
    scatter_add,
    singular_values,
    total,
    transpose,
    where,
    zeroed,
)

LN2, LN10 = math.log(2), math.log(10)


def transposed(a):
    return np.swapaxes(a, -1, -2)


def per_matrix(g):
    """One number per matrix, ready to multiply the matrices: (...) to (..., 1, 1)."""
    return np.reshape(g, (*np.shape(g), 1, 1))


def restored(y, shape, axis):
    """A reduced array with its reduced axes back, of size 1."""
    axes = normalize_axes(axis, len(shape))
    return np.reshape(y, [1 if i in axes else size for i, size in enumerate(shape)])


def shared_among_equals(g, y, a, axis):
    """The gradient of max and min: to the elements equal to the extreme, in equal parts."""
    winners = a == restored(y, a.shape, axis)
    parts = winners / winners.sum(axis=axis, keepdims=True)
    return restored(g, a.shape, axis) * parts.astype(a.dtype)


def unless_lost(g, lost, equal):
    """The gradient of one of two competing arguments."""
    return np.where(lost, 0, np.where(equal, g / 2, g))


def squared_radius(a, b):
    """a^2 + b^2, but 1 at the origin, where an angle does not change for any reason."""
    square = a * a + b * b
    return np.where(square == 0, 1, square)


def power_slope(a, b):
    """d(a^b)/da, which for b = 0 is 0 also where a^(b-1) is no number, at 0 and NaN."""
    if np.ndim(b) == 0 and b != 0:
        return b * a ** (b - 1)
    flat = (b == 0) & ~((a < 0) | (a > 0))
    return np.where(flat, 0, b * a ** np.where(flat, 1, b - 1))


def log_where_it_counts(a, b):
    """log(a), for d(a^b)/db; 0 where a = 0 <= b, as 0^b stays 0 (or 1) when b moves."""
    return np.log(np.where((a == 0) & (b >= 0), 1, a))


def within(a, low, high):
    """Whether low <= a <= high, where None is no number, or no bound."""
    above = np.bool_(a is None or low is None) or a >= low
    return above & (np.bool_(a is None or high is None) or a <= high)


def own_part(g, i, axis, bounds):
    """The part of a joined gradient that belongs to the i-th array."""
    return getitem(g, (slice(None),) * axis + (slice(*bounds[i : i + 2]),))


def uncontracted(g, i, args, subscripts, optimize):
    """The gradient of the i-th operand of an einsum: an einsum of `g` with the other operands."""
    inputs, output = subscripts.split("->")
    labels = inputs.split(",")
    own = labels[i]
    operands, given = [g], [output]
    for k, label in enumerate(labels):
        if k != i:
            operands.append(args[k])
            given.append(label)
    wanted, unused = "", [c for c in string.ascii_letters if c not in subscripts]
    for axis, label in enumerate(own):
        size = args[i].shape[axis]
        if label in own[:axis]:  # a diagonal: the gradient is zero off it
            fresh = unused.pop()
            operands.append(np.eye(size, dtype=g.dtype))
            given.append(label + fresh)
            wanted += fresh
            continue
        if all(
            other.shape[labels.index(label)] != size
            for other, labels in zip(operands, given)
            if label in labels
        ):
            # Summed alone, or against a size of 1: the same along all of it.
            operands.append(np.ones(size, dtype=g.dtype))
            given.append(label)
        wanted += label
    return contract(*operands, subscripts=",".join(given) + "->" + wanted, optimize=optimize)


def inverse_order(axes):
    return None if axes is None else np.argsort([i % len(axes) for i in axes])


def reversed_cumsum(g, shape, axis):
    return np.reshape(np.flip(cumsum(np.flip(g, axis), axis=axis), axis), shape)


def cholesky_pullback(g, y):
    """I. Murray, 2016, arXiv:1602.07527, equation 8; symmetric, as the argument is."""
    n = y.shape[-1]
    lower = (np.tril(np.ones((n, n))) - np.eye(n) / 2).astype(g.dtype)
    inverse = np.linalg.inv(y)
    return symmetric(transposed(inverse) @ (lower * (transposed(y) @ g)) @ inverse)


def symmetric(a):
    return (a + transposed(a)) / 2


def cofactors(y, a):
    """The derivative of the determinant `y`: det(a) a^-T, or its limit where that is singular."""
    try:
        return per_matrix(y) * transposed(np.linalg.inv(a))
    except np.linalg.LinAlgError:
        if not isinstance(a, np.ndarray):
            raise np.linalg.LinAlgError(
                "second derivatives of det need an invertible matrix"
            ) from None
        u, s, vt = np.linalg.svd(a)
        others = np.where(np.eye(s.shape[-1], dtype=bool), 1, s[..., None, :]).prod(axis=-1)
        signs = np.linalg.det(u) * np.linalg.det(vt)
        return per_matrix(signs) * (u * others[..., None, :]) @ vt


def eigenvalue_pullback(g, a, uplo):
    vectors = np.linalg.eigh(a, uplo)[1]
    return (vectors * np.expand_dims(g, -2)) @ transposed(vectors)


def eigenvector_pullback(g, y, values):
    same = np.eye(values.shape[-1], dtype=bool)
    gaps = np.expand_dims(values, -2) - np.expand_dims(values, -1)
    inner = np.where(same, 0, (transposed(y) @ g) / np.where(same, 1, gaps))
    return symmetric(y @ inner @ transposed(y))


def singular_value_pullback(g, y, a):
    """u diag(g) v^T, where u = a v / s and v are the eigenvectors of a^T a, or the reverse."""
    if a.shape[-2] < a.shape[-1]:
        return transposed(singular_value_pullback(g, y, transposed(a)))
    vectors = np.flip(np.linalg.eigh(transposed(a) @ a)[1], -1)
    return a @ (vectors * np.expand_dims(g / y, -2)) @ transposed(vectors)


def pseudo_inverse_pullback(g, y, a):
    """G. Golub, V. Pereyra, 1973, doi:10.1137/0710036."""
    t, rest = transposed(g), np.eye(a.shape[-2], dtype=a.dtype) - a @ y
    left = np.eye(a.shape[-1], dtype=a.dtype) - y @ a
    through = transposed(y) @ g @ transposed(y)
    return rest @ t @ y @ transposed(y) + transposed(y) @ y @ t @ left - through


nothing = (lambda g: np.zeros_like(g),)

# fmt: off
derivatives = {
    # arithmetic
    np.add:         (lambda g: g,                          lambda g: g),
    np.subtract:    (lambda g: g,                          lambda g: -g),
    np.multiply:    (lambda g, b: g * b,                   lambda g, a: g * a),
    np.divide:      (lambda g, b: g / b,                   lambda g, y, b: -g * y / b),
    np.power:       (lambda g, a, b: g * power_slope(a, b),
                     lambda g, y, a, b: g * y * log_where_it_counts(a, b)),
    np.remainder:   (lambda g: g,                          lambda g, a, b: -g * np.floor(a / b)),
    np.fmod:        (lambda g: g,                          lambda g, a, b: -g * np.trunc(a / b)),
    np.negative:    (lambda g: -g,),
    np.positive:    (lambda g: g,),
    np.conjugate:   (lambda g: g,),
    np.reciprocal:  (lambda g, y: -g * y * y,),
    np.square:      (lambda g, a: 2 * g * a,),
    np.sqrt:        (lambda g, y: g / (2 * y),),
    np.cbrt:        (lambda g, y: g / (3 * y * y),),
    np.absolute:    (lambda g, a: g * np.sign(a),),
    np.fabs:        (lambda g, a: g * np.sign(a),),
    np.hypot:       (lambda g, y, a: g * a / y,            lambda g, y, b: g * b / y),

    # exponentials and logarithms
    np.exp:         (lambda g, y: g * y,),
    np.exp2:        (lambda g, y: g * y * LN2,),
    np.expm1:       (lambda g, y: g * (y + 1),),
    np.log:         (lambda g, a: g / a,),
    np.log2:        (lambda g, a: g / (a * LN2),),
    np.log10:       (lambda g, a: g / (a * LN10),),
    np.log1p:       (lambda g, a: g / (1 + a),),
    np.logaddexp:   (lambda g, a, b: g * np.exp(-np.logaddexp(0, b - a)),
                     lambda g, a, b: g * np.exp(-np.logaddexp(0, a - b))),
    np.logaddexp2:  (lambda g, a, b: g * np.exp2(-np.logaddexp2(0, b - a)),
                     lambda g, a, b: g * np.exp2(-np.logaddexp2(0, a - b))),

    erf:            (lambda g, a: g * np.exp(-a * a) * (2 / math.sqrt(math.pi)),),

    # angles
    np.sin:         (lambda g, a: g * np.cos(a),),
    np.cos:         (lambda g, a: -g * np.sin(a),),
    np.tan:         (lambda g, y: g * (1 + y * y),),
    np.arcsin:      (lambda g, a: g / np.sqrt(1 - a * a),),
    np.arccos:      (lambda g, a: -g / np.sqrt(1 - a * a),),
    np.arctan:      (lambda g, a: g / (1 + a * a),),
    np.arctan2:     (lambda g, a, b: g * b / squared_radius(a, b),
                     lambda g, a, b: -g * a / squared_radius(a, b)),
    np.sinh:        (lambda g, a: g * np.cosh(a),),
    np.cosh:        (lambda g, a: g * np.sinh(a),),
    np.tanh:        (lambda g, y: g * (1 - y * y),),
    np.arcsinh:     (lambda g, a: g / np.sqrt(a * a + 1),),
    np.arccosh:     (lambda g, a: g / np.sqrt(a * a - 1),),
    np.arctanh:     (lambda g, a: g / (1 - a * a),),
    np.deg2rad:     (lambda g: g * (math.pi / 180),),
    np.radians:     (lambda g: g * (math.pi / 180),),
    np.rad2deg:     (lambda g: g * (180 / math.pi),),
    np.degrees:     (lambda g: g * (180 / math.pi),),

    # steps and choices
    relu:           (lambda g, y: zeroed(g, y <= 0),),
    zeroed:         (lambda g, b: zeroed(g, b), None),
    np.sign:        nothing,
    np.floor:       nothing,
    np.ceil:        nothing,
    np.trunc:       nothing,
    np.rint:        nothing,
    np.round:       nothing,
    np.floor_divide: nothing * 2,
    np.maximum:     (lambda g, a, b: unless_lost(g, a < b, a == b),
                     lambda g, a, b: unless_lost(g, b < a, a == b)),
    np.minimum:     (lambda g, a, b: unless_lost(g, a > b, a == b),
                     lambda g, a, b: unless_lost(g, b > a, a == b)),
    np.fmax:        (lambda g, a, b: unless_lost(g, (a < b) | np.isnan(a), a == b),
                     lambda g, a, b: unless_lost(g, ~((b >= a) | np.isnan(a)), a == b)),
    np.fmin:        (lambda g, a, b: unless_lost(g, (a > b) | np.isnan(a), a == b),
                     lambda g, a, b: unless_lost(g, ~((b <= a) | np.isnan(a)), a == b)),
    where:          (None,
                     lambda g, a: np.where(a, g, 0),
                     lambda g, a: np.where(a, 0, g)),
    clip:           (lambda g, a, b, c: np.where(within(a, b, c), g, 0),
                     lambda g, a, b, c: np.where((a < b) & within(b, None, c), g, 0),
                     lambda g, a, b, c: np.where((a > c) | ~within(b, None, c), g, 0)),

    # reductions
    total:          (lambda g, shape, axis=None: np.broadcast_to(restored(g, shape, axis), shape),),
    np.max:         (lambda g, y, a, axis=None: shared_among_equals(g, y, a, axis),),
    np.min:         (lambda g, y, a, axis=None: shared_among_equals(g, y, a, axis),),
    cumsum:         (lambda g, shape, axis=None: reversed_cumsum(g, shape, axis),),
    euclidean_norm: (lambda g, y, a, axis=None:
                     a * restored(g / np.where(y == 0, 1, y), a.shape, axis),),

    # the same numbers in another place
    astype:         (lambda g: g,),
    reshape:        (lambda g, shape: np.reshape(g, shape),),
    np.expand_dims: (lambda g, shape: np.reshape(g, shape),),
    np.squeeze:     (lambda g, shape: np.reshape(g, shape),),
    np.broadcast_to: (lambda g: g,),
    transpose:      (lambda g, axes=None: np.transpose(g, inverse_order(axes)),),
    np.swapaxes:    (lambda g, axis1, axis2: np.swapaxes(g, axis1, axis2),),
    np.moveaxis:    (lambda g, source, destination: np.moveaxis(g, destination, source),),
    np.flip:        (lambda g, axis=None: np.flip(g, axis),),
    np.roll:        (lambda g, shift, axis=None: np.roll(g, np.negative(shift), axis),),
    getitem:        (lambda g, shape, key: scatter_add(g, key, shape),),
    scatter_add:    (lambda g, key: getitem(g, key),),
    join:           (lambda g, i, axis, bounds: own_part(g, i, axis, bounds), ...),

    # linear algebra; vectors have become matrices before they come here
    matrix_product: (lambda g, b: g @ transposed(b),       lambda g, a: transposed(a) @ g),
    contract:       (lambda g, i, args, subscripts, optimize=False:
                     uncontracted(g, i, args, subscripts, optimize), ...),
    np.linalg.inv:  (lambda g, y: -transposed(y) @ g @ transposed(y),),
    matrix_solve:   (lambda g, y, a: -matrix_solve(transposed(a), g) @ transposed(y),
                     lambda g, a: matrix_solve(transposed(a), g)),
    np.linalg.det:  (lambda g, y, a: per_matrix(g) * cofactors(y, a),),
    log_abs_determinant: (lambda g, a: per_matrix(g) * transposed(np.linalg.inv(a)),),
    np.linalg.cholesky: (lambda g, y: cholesky_pullback(g, y),),
    eigenvalues:    (lambda g, a, uplo: eigenvalue_pullback(g, a, uplo),),
    eigenvectors:   (lambda g, y, a, uplo: eigenvector_pullback(g, y, eigenvalues(a, uplo=uplo)),),
    singular_values: (lambda g, y, a: singular_value_pullback(g, y, a),),
    pseudo_inverse: (lambda g, y, a: pseudo_inverse_pullback(g, y, a),),
}
# fmt: on
