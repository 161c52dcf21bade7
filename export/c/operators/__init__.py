"""One emitter for every ONNX operator that has a form in C, a file per family."""

from collections.abc import Callable, Mapping

from hindsight_rl.export.c.code import Code
from hindsight_rl.export.c.graph import CodeError, Node
from hindsight_rl.export.c.memory import SAME
from hindsight_rl.export.c.operators import (
    convolution,
    convolve,
    elementwise,
    linear,
    movement,
    normalization,
    reduction,
    selection,
)

Emit = Callable[[Node, Code], None]

IN_PLACE = frozenset(elementwise.EMITTERS)
"""Operators that read a number of an input only to write that of the output."""


def scratch(node: Node) -> int:
    """Return how many floats a node needs to work in, beside its inputs and outputs."""
    return convolve.scratch(node) if node.kind == "Conv" else 0


def _same(node: Node, code: Code) -> None:
    """Write nothing: the output lies where the input does."""
    if node.kind == "Reshape":
        node.constant(1, "new shape")


EMITTERS: Mapping[str, Emit] = {
    **elementwise.EMITTERS,
    **movement.EMITTERS,
    **linear.EMITTERS,
    **reduction.EMITTERS,
    **normalization.EMITTERS,
    **convolution.EMITTERS,
    **selection.EMITTERS,
    **dict.fromkeys(SAME, _same),
}
"""By operator."""


def emit(node: Node, code: Code) -> None:
    """Add the C of a node.

    Args:
        node: The node.
        code: What it is added to.

    Raises:
        CodeError: The operator, or the form that it has here, has none in C.
    """
    emitter = EMITTERS.get(node.kind)
    if emitter is None:
        raise CodeError(
            f"operator {node.kind} (node '{node.name}') has no form in C. Export with another "
            "--opset (18 is the default), which may write it by other operators. Those that have "
            f"one: {', '.join(sorted(EMITTERS))}"
        )
    if node.kind not in SAME:
        code.note(node)
    emitter(node, code)
