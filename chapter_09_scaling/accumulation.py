"""Gradient accumulation: a batch too large for memory, worked on part after part.

The gradient of a sum is the sum of the gradients. So a part of the batch goes forward and backward,
its gradient is added to that of the parts before, and all else that it made is dropped before the
next one begins. It is chapter 5's batch in threads without the threads.
"""

from __future__ import annotations

from chapter_03_neural_nets.training import Loss, check_count
from chapter_05_gradient_mastery.threads import in_parts


def accumulated(loss: Loss, parts: int) -> Loss:
    """The same mean loss of (model, inputs, targets), its gradient made in so many parts, in turn.

    A part counts by its targets that are not ignored, so value and gradient are the whole batch's,
    to rounding; what it draws at random comes from a generator of its own. The activations of one
    part exist at a time, and beside them one more gradient of all parameters. As for `in_threads`,
    there are first derivatives only, and it raises ValueError for batch normalisation in training
    and for models that drop at random by a generator of their own.
    """
    check_count("parts", parts, least=1)
    if parts == 1:
        return loss
    return in_parts(loss, parts, map)  # which is lazy: a part begins when the last is added
