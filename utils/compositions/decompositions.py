"""Eigenvalues, singular values and the pseudo-inverse.

Derivatives of eigenvectors exist where the eigenvalues differ, as everywhere (M. Giles, 2008, "An
extended collection of matrix derivative results").
"""

from __future__ import annotations

import numpy as np

from utils import primitives


def eigvalsh(a, UPLO="L"):
    return primitives.eigenvalues(a, uplo=UPLO)


def eigh(a, UPLO="L"):
    both = primitives.eigenvalues(a, uplo=UPLO), primitives.eigenvectors(a, uplo=UPLO)
    result = type(np.linalg.eigh(np.eye(1)))  # with named parts, since NumPy 1.25
    return both if result is tuple else result(*both)


def svd(a, full_matrices=True, compute_uv=True, hermitian=False):
    if compute_uv or hermitian:
        raise TypeError("svd: only compute_uv=False, the singular values, has a derivative here")
    return primitives.singular_values(a)


def pinv(a):
    return primitives.pseudo_inverse(a)


DECOMPOSITIONS = {
    np.linalg.eigvalsh: eigvalsh,
    np.linalg.eigh: eigh,
    np.linalg.svd: svd,
    np.linalg.pinv: pinv,
}
