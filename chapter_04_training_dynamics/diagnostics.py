"""Looking inside while a network trains: what its layers say, hear back, and how far they move.

Three questions, each a number a layer and step. Do the activations keep their scale, or do they
fade, grow, saturate? Do the gradients? And how large is an update beside the weight it changes:
around a thousandth, or are some layers frozen and others thrown about?
"""

from __future__ import annotations

import numpy as np

from chapter_03_neural_nets import Module, ReLU, Tanh

SATURATED = 0.97  # there the slope of tanh is below 0.06
QUANTITIES = ("mean", "std", "signal", "saturated", "gradient")


class Recorder:
    """Inside a `with`, watch all modules of some kinds in every pass of the model in training.

    recorder["std"] is an array (layers, passes), a row for each of `names`. Of the activations
    there are "mean", "std", "signal" (the standard deviation between the examples of the batch, so
    without what biases add to all alike) and the share "saturated" (|tanh| above 0.97, or a relu
    that is 0); "gradient" is the standard deviation of the loss's gradient for them, NaN without a
    backward pass. `steps` are the passes recorded, one in `every`; `outputs` holds the last one's
    activations. Raises ValueError where the model has no such modules.
    """

    def __init__(
        self, model: Module, kinds: tuple[type, ...] = (Tanh, ReLU), every: int = 1
    ) -> None:
        self.model, self.every = model, every
        modules = {m: name for name, m in model.named_modules() if isinstance(m, kinds)}
        if not modules:
            wanted = ", ".join(kind.__name__ for kind in np.atleast_1d(kinds))
            raise ValueError(f"there is nothing to record: the model has no {wanted}")
        if not every >= 1:
            raise ValueError(f"every={every}: record one pass in 1, 2, ...")
        self.names = list(modules.values())
        self.steps: list[int] = []
        self.outputs: dict[str, np.ndarray] = {}
        self._places = {module: i for i, module in enumerate(modules)}
        self._passes, self._recording = 0, False
        self._rows: list[np.ndarray] = []  # one (quantities, layers) a recorded pass
        self._handles: list = []

    def __getitem__(self, quantity: str) -> np.ndarray:
        if quantity not in QUANTITIES:
            raise KeyError(f"{quantity!r} is not recorded, but {', '.join(QUANTITIES)}")
        rows = [row[QUANTITIES.index(quantity)] for row in self._rows]
        return np.array(rows).reshape(-1, len(self.names)).T

    def __enter__(self) -> Recorder:
        self._handles = [self.model.register_forward_pre_hook(self._begin)]
        for module in self._places:
            self._handles.append(module.register_forward_hook(self._record_output))
            self._handles.append(module.register_full_backward_pre_hook(self._record_gradient))
        return self

    def __exit__(self, *error) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, model: Module, args: tuple) -> None:
        self._recording = model.training and self._passes % self.every == 0
        if self._recording:
            self.steps.append(self._passes)
            self._rows.append(np.full((len(QUANTITIES), len(self.names)), np.nan))
        self._passes += model.training

    def _record_output(self, module: Module, args: tuple, output) -> None:
        if self._recording:
            y, place = output.data, self._places[module]
            self.outputs[self.names[place]] = y
            with np.errstate(over="ignore", invalid="ignore"):  # to see it is why one looks
                signal = np.sqrt(np.mean(y.var(axis=0)))
                seen = y.mean(), y.std(), signal, share_saturated(module, y)
            self._rows[-1][: len(seen), place] = seen

    def _record_gradient(self, module: Module, gradients: tuple) -> None:
        if self._recording:
            with np.errstate(over="ignore", invalid="ignore"):
                self._rows[-1][-1, self._places[module]] = gradients[0].std()


def share_saturated(module: Module, y: np.ndarray) -> float:
    """The share of outputs where the activation is flat, so that no gradient passes."""
    if isinstance(module, Tanh):
        return float(np.mean(np.abs(y) > SATURATED))
    return float(np.mean(y == 0)) if isinstance(module, ReLU) else np.nan


class UpdateRatios:
    """log10 of std(update) / std(weight) for every matrix and step: about -3 is healthy.

    Pass it to `train(..., before_step=[ratios])`. It is called between steps, so it sees an update
    when the next one is due; call it once more with the model to see the last. `ratios.logs` holds
    a list for each matrix, of the updates of `steps`, one in `every`.
    Source: A. Karpathy, Neural Networks: Zero to Hero, lecture 4, 2022.
    """

    def __init__(self, every: int = 1) -> None:
        if not every >= 1:
            raise ValueError(f"every={every}: record one step in 1, 2, ...")
        self.every = every
        self.steps: list[int] = []
        self.logs: dict[str, list[float]] = {}
        self._calls = 0
        self._before: dict[str, np.ndarray] = {}

    def __call__(self, model: Module) -> None:
        weights = {name: p.data for name, p in model.named_parameters() if p.ndim >= 2}
        if self._before:
            self.steps.append(self._calls - 1)
            for name, ratio in update_ratios(self._before, weights).items():
                self.logs.setdefault(name, []).append(ratio)
        due = self._calls % self.every == 0
        self._before = {name: w.copy() for name, w in weights.items()} if due else {}
        self._calls += 1


def update_ratios(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> dict[str, float]:
    """log10 of std(after - before) / std(before) for every array: -inf where nothing moved."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return {
            name: float(np.log10((after[name] - weight).std() / weight.std()))
            for name, weight in before.items()
        }
