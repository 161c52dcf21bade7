"""SeedStates: all that moves in training, of one seed or of many at once, in flat matrices.

Parameters, targets, moving buffers and Adam's averages of seed s are row s of one matrix each. An
update is then a function of a few tensors whatever the number of networks, the optimiser is one
pass over one matrix, and a further seed is a further row. The learner's own tensors and the
optimiser's state are views of the row that is selected: checkpoints, evaluation and export need
not know.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Layout:
    """Where named tensors lie in a flat vector.

    Args:
        tensors: Tensors by name; their order is the order in the vector.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self.sizes = [tensor.numel() for tensor in tensors.values()]

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the vector ``[P]`` of tensors by name."""
        if not self.shapes:
            return torch.empty(0)
        return torch.cat([tensors[name].reshape(-1) for name in self.shapes])

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the tensors ``[..., *shape]`` in vectors ``[..., P]``, as views."""
        parts = flat.split(self.sizes, dim=-1) if self.shapes else ()
        pairs = zip(self.shapes.items(), parts, strict=True)
        return {
            name: part.unflatten(-1, shape or (1,)) if shape else part.squeeze(-1)
            for (name, shape), part in pairs
        }


def _online(name: str, follow: Mapping[str, str]) -> str:
    """Return which parameter a parameter of a target follows, by the beginnings of their names."""
    start = next(start for start in follow if name.startswith(start))
    return follow[start] + name.removeprefix(start)


class State(NamedTuple):
    """What an update reads and writes, one row per seed.

    Args:
        parameters: ``[S, P]``.
        first: ``[S, P]``, Adam's mean of gradients.
        second: ``[S, P]``, Adam's mean of squared gradients.
        targets: ``[S, Q]``, target networks.
        buffers: ``[S, R]``, what the losses move by themselves (running statistics).
    """

    parameters: Tensor
    first: Tensor
    second: Tensor
    targets: Tensor
    buffers: Tensor


class Span(NamedTuple):
    """A run of the parameter vector: ``[start, stop)`` of a network or of a parameter group."""

    name: str
    start: int
    stop: int


class SeedStates:
    """The state of ``count`` seeds of a learner.

    Args:
        trained: Trained parameters by name, in the order of the optimiser's groups.
        targets: Parameters of target networks by name.
        buffers: The learner's own buffers by name.
        count: Number of seeds, S; all start as the learner is.
    """

    def __init__(
        self,
        trained: Mapping[str, nn.Parameter],
        targets: Mapping[str, nn.Parameter],
        buffers: Mapping[str, Tensor],
        count: int,
    ) -> None:
        self._held: tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]
        self._held = dict(trained), dict(targets), dict(buffers)
        self.layouts = tuple(Layout(held) for held in self._held)
        self.count = count
        with torch.no_grad():
            rows = [
                layout.join(held).to(next(iter(trained.values())).device)
                for layout, held in zip(self.layouts, self._held, strict=True)
            ]
            parameters, follow, moving = (row.expand(count, -1).clone() for row in rows)
        zeros = torch.zeros_like(parameters)
        self.state = State(parameters, zeros, zeros.clone(), follow, moving)
        self.selected = 0

    @classmethod
    def of(
        cls, learner: nn.Module, count: int, optimizer: torch.optim.Optimizer | None = None
    ) -> "SeedStates":
        """Return the seeds of a learner.

        Args:
            learner: The learner; ``targets`` names its target networks.
            count: Number of seeds.
            optimizer: Gives the order of the parameters, group by group; ``None`` leaves the order
                of the learner.

        Returns:
            SeedStates that all equal the learner.
        """
        named = dict(learner.named_parameters())
        follow = {f"{target}.": f"{of}." for target, of in getattr(learner, "targets", {}).items()}
        copies = {n: p for n, p in named.items() if n.startswith(tuple(follow))}
        trained = {n: p for n, p in named.items() if n not in copies and p.requires_grad}
        # What is frozen in a network is so in its target.
        targets = {n: p for n, p in copies.items() if _online(n, follow) in trained}
        if optimizer is not None:
            names = {parameter: name for name, parameter in trained.items()}
            ordered = [p for group in optimizer.param_groups for p in group["params"]]
            trained = {names[parameter]: parameter for parameter in ordered}
        buffers = dict(learner.named_buffers(recurse=False))
        return cls(trained, targets, buffers, count)

    def spans(self, groups: Mapping[str, list[nn.Parameter]]) -> list[Span]:
        """Return where groups of trained parameters lie, each one run, in the vector's order."""
        starts, start = {}, 0
        for name, parameter in self._held[0].items():
            starts[parameter] = start
            start += math.prod(self.layouts[0].shapes[name])
        spans = []
        for name, parameters in groups.items():
            first = min(starts[p] for p in parameters)
            spans.append(Span(name, first, first + sum(p.numel() for p in parameters)))
        return sorted(spans, key=lambda span: span.start)

    def select(self, seed: int) -> None:
        """Make the learner's tensors views of one seed.

        Args:
            seed: In [0, count).
        """
        parts = self.state.parameters, self.state.targets, self.state.buffers
        for layout, held, matrix in zip(self.layouts, self._held, parts, strict=True):
            for name, view in layout.split(matrix[seed]).items():
                held[name].data = view
        self.selected = seed

    def each(self) -> Iterator[int]:
        """Select every seed in turn, and in the end the one that was selected."""
        before = self.selected
        try:
            for seed in range(self.count):
                self.select(seed)
                yield seed
        finally:
            self.select(before)

    def write(self, seed: int, tensors: Mapping[str, Tensor]) -> None:
        """Take over the parameters, targets and buffers of one seed by name."""
        parts = self.state.parameters, self.state.targets, self.state.buffers
        with torch.no_grad():
            for layout, matrix in zip(self.layouts, parts, strict=True):
                for name, view in layout.split(matrix[seed]).items():
                    view.copy_(tensors[name])

    def adopt(self, optimizer: torch.optim.Optimizer) -> None:
        """Move Adam's averages into the state, and leave the optimiser views of seed 0.

        Args:
            optimizer: Adam or AdamW, as it is or as a checkpoint restored it.
        """
        averages = [self.layouts[0].split(m[0]) for m in (self.state.first, self.state.second)]
        for name, parameter in self._held[0].items():
            entry = optimizer.state.setdefault(parameter, {})
            for key, views in zip(("exp_avg", "exp_avg_sq"), averages, strict=True):
                if key in entry:
                    views[name].copy_(entry[key])
                entry[key] = views[name]
            # A tensor of its own for each, as Adam wants it when it takes over again.
            entry["step"] = entry.get("step", torch.zeros(())).clone().to(parameter.device)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return everything by name, ``[S, *shape]``."""
        trained, targets, buffers = self.layouts
        parts = zip(
            State._fields, (trained, trained, trained, targets, buffers), self.state, strict=True
        )
        return {field: layout.split(matrix) for field, layout, matrix in parts}

    def load_state_dict(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over what :meth:`state_dict` returned.

        Args:
            saved: Tensors ``[S, *shape]`` by field and name.

        Raises:
            ValueError: It holds another number of seeds.
        """
        found = next(iter(saved["parameters"].values()))
        if len(found) != self.count:
            raise ValueError(
                f"the checkpoint holds {len(found)} seeds, this run has {self.count}: set "
                f"--model.seeds {len(found)}"
            )
        with torch.no_grad():
            for field, views in self.state_dict().items():
                for name, view in views.items():
                    view.copy_(saved[field][name])
