"""Recording: what a function does to tensors, operation by operation, without the compiler.

An update is known by its record: a later run that makes the same record makes the same program. To
record one costs little more than to make the update once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary


class Record(NamedTuple):
    """What a function did.

    Args:
        text: Its operations with their arguments, in order; tensors are numbers.
        constants: Tensors that it read and that nobody gave it.
    """

    text: str
    constants: tuple[Tensor, ...]


def record(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> Record:
    """Return what a function does with inputs.

    Args:
        function: Depends on nothing but its inputs, and changes none.
        inputs: Tensors.

    Returns:
        The record; equal for equal operations on tensors of equal shapes, strides and dtypes,
        whatever numbers they hold.
    """
    recorder = _Recorder(inputs)
    with recorder:
        results = function(*inputs)
    recorder.lines.append(recorder.spelled(tuple(results)))
    return Record("\n".join(recorder.lines), tuple(recorder.constants))


class _Recorder(TorchDispatchMode):
    """Writes a line for every operation that reaches the device."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lines: list[str] = []
        self.constants: list[Tensor] = []
        # Weak: what an update needs for a moment is not held until its end.
        self._numbers = cast(Any, WeakTensorKeyDictionary)()  # it is not typed
        self._count = 0
        self.lines.append(", ".join(self._new(tensor) for tensor in inputs))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        given = f"{func}({self.spelled(tuple(args))}, {self.spelled(named)})"
        results = func(*args, **named)
        for result in results if isinstance(results, list | tuple) else (results,):
            if isinstance(result, Tensor) and result not in self._numbers:
                given += f" {self._new(result)}"
        self.lines.append(given)
        return results

    def spelled(self, value: Any) -> str:
        """Return an argument as text; a tensor as its number."""
        if isinstance(value, Tensor):
            if value not in self._numbers:
                self.constants.append(value)
                return f"constant {self._new(value)}"
            return f"%{self._numbers[value]}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self.spelled, value))}]"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{name}={self.spelled(v)}' for name, v in value.items())}}}"
        return repr(value)

    def _new(self, tensor: Tensor) -> str:
        """Number a tensor, and return it with what matters of it beside its numbers."""
        self._numbers[tensor] = self._count
        self._count += 1
        shape = f"{tuple(tensor.shape)} {tensor.stride()} {tensor.dtype} {tensor.device}"
        return f"%{self._count - 1}: {shape}"


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors are alike to the bit, and laid out alike."""
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and one.stride() == other.stride() and bytes_of(one) == bytes_of(other)


def bytes_of(tensor: Tensor) -> bytes:
    """Return the numbers of a tensor as bytes, row by row."""
    return bytes(tensor.detach().flatten().view(torch.uint8).numpy().tobytes())
