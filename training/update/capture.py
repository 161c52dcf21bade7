"""Capture: one update replayed as a CUDA graph. Written for CUDA and not yet measured on it.

And what any function needs before it is compiled.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

Rows = tuple[Tensor, ...]


def assign(state: Rows, rows: Rows) -> None:
    """Write new values into the tensors of a state.

    Args:
        state: Tensors that stay where they are.
        rows: New values, of the same shapes.
    """
    for held, new in zip(state, rows, strict=True):
        held.copy_(new)


def captured(update: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function that replays a CUDA graph of one update for each of a chunk.

    The state is moved in place, so the graph's addresses stay valid; batches and rates are copied
    into buffers of its own.

    Args:
        update: The updates of a chunk of one, in place.

    Returns:
        The same for chunks of any size.
    """
    held: list[Any] = []

    def prepare(state: Rows, inputs: Rows) -> None:
        static = tuple(tensor[:1].clone() for tensor in inputs)
        before = tuple(row.clone() for row in state)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # compiles, and warms up what allocates lazily
                update(state, *static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            seen = update(state, *static)
        assign(state, before)
        held.extend((graph, static, seen))

    def run(state: Rows, *inputs: Tensor) -> Tensor:
        if not held:
            prepare(state, inputs)
        graph, static, seen = held
        values = []
        for number in range(len(inputs[0])):
            for buffer, tensor in zip(static, inputs, strict=True):
                buffer[0].copy_(tensor[number])
            graph.replay()
            values.append(seen.clone())
        return torch.cat(values)

    return run


def fresh(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the function with a code object of its own.

    What is compiled is kept with the code object, a few versions at most: without this, the ninth
    learner of a process would fail.
    """
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, None, function.__closure__)
