"""NumPy's compound functions, written with functions that have rules, so their gradients come free.

Each takes NumPy's arguments under NumPy's names, as far as Tensors support them, and works on
arrays and Tensors alike. `compositions` says which of NumPy's functions each one stands for.
"""

from __future__ import annotations

from utils.compositions.decompositions import DECOMPOSITIONS
from utils.compositions.linear_algebra import LINEAR_ALGEBRA
from utils.compositions.reductions import REDUCTIONS
from utils.compositions.shapes import SHAPES

compositions = {**REDUCTIONS, **SHAPES, **LINEAR_ALGEBRA, **DECOMPOSITIONS}
