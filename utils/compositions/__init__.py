"""NumPy's compound functions, written with functions that have rules, so their gradients come free.

Each takes NumPy's arguments under NumPy's names, as far as Tensors support them, and works on
arrays and Tensors alike. `compositions` says which of NumPy's functions each one stands for.
"""

from __future__ import annotations

from .decompositions import decompositions
from .linear_algebra import linear_algebra
from .reductions import reductions
from .shapes import shapes

compositions = {**reductions, **shapes, **linear_algebra, **decompositions}
