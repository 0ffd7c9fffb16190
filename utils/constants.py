"""NumPy's functions whose results do not change, or only jump, when their arguments move a little.

On Tensors they return plain arrays (or what NumPy returns), without a gradient.
"""

from __future__ import annotations

import numpy as np

_names = """
all allclose any argmax argmin argpartition argsort argwhere array2string array_equal
array_equiv array_repr array_str broadcast_shapes can_cast common_type count_nonzero
digitize empty_like equal flatnonzero greater greater_equal isclose iscomplex
iscomplexobj isfinite isin isinf isnan isneginf isposinf isreal isrealobj less less_equal lexsort
logical_and logical_not logical_or logical_xor may_share_memory min_scalar_type nanargmax nanargmin
ndim nonzero not_equal ones_like result_type searchsorted shape shares_memory signbit size
tril_indices_from triu_indices_from zeros_like
"""

constants = frozenset(getattr(np, name) for name in _names.split() if hasattr(np, name))
