"""Modules made of modules: one after the other, or a list to be used as one likes."""

from __future__ import annotations

from typing import Any, Iterable, Iterator

from chapter_03_neural_nets.module import Module


class ModuleList(Module):
    """A list whose members are parts of the module that holds it."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} holds modules, not {type(module).__name__}")
        setattr(self, str(len(self)), module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int | slice) -> Any:
        """A member, or a list of some of them; they are shared, not copied."""
        found = list(self.children())[index]
        return ModuleList(found) if isinstance(index, slice) else found


class Sequential(ModuleList):
    """Modules called one after the other, each on what the one before returned."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def __getitem__(self, index: int | slice) -> Any:
        found = super().__getitem__(index)
        return Sequential(*found) if isinstance(index, slice) else found

    def forward(self, x: Any) -> Any:
        for module in self.children():
            x = module(x)
        return x
