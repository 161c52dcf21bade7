"""Operators that compute every number of the output from one of each input."""

from collections.abc import Callable, Sequence

import numpy as np

from hindsight_rl.export.c.code import Code, broadcast, contiguous
from hindsight_rl.export.c.graph import Node, Tensor
from hindsight_rl.export.c.memory import C_TYPES, pool_of
from hindsight_rl.export.c.text import Index, number

Emit = Callable[[Node, Code], None]

_PLAIN = {
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Erf": "erf",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "rint",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
    "Asin": "asin",
    "Acos": "acos",
    "Atan": "atan",
    "Sinh": "sinh",
    "Cosh": "cosh",
    "Tanh": "tanh",
    "Asinh": "asinh",
    "Acosh": "acosh",
    "Atanh": "atanh",
}
"""Functions of math.h by operator; those of float end with f."""
# NaN goes through all of them: comparisons are written so that it is never replaced by a bound.
_UNARY = {
    "Relu": "x < 0 ? 0 : x",
    "Neg": "-x",
    "Not": "!x",
    "Abs": "x < 0 ? -x : x",
    "Sign": "x != x ? x : ({type})((x > 0) - (x < 0))",
    "Reciprocal": "1 / x",
    "Sigmoid": "1 / (1 + exp{f}(-x))",
    "Softplus": "(x < 0 ? 0 : x) + log1p{f}(exp{f}(x < 0 ? x : -x))",
    "Softsign": "x / (1 + (x < 0 ? -x : x))",
    "HardSwish": "x * (x < -3 ? 0 : x > 3 ? 1 : (x + 3) / 6)",
}
_BINARY = {
    "Add": "x + y",
    "Sub": "x - y",
    "Mul": "x * y",
    "Div": "x / y",
    "Equal": "x == y",
    "Less": "x < y",
    "LessOrEqual": "x <= y",
    "Greater": "x > y",
    "GreaterOrEqual": "x >= y",
    "And": "x && y",
    "Or": "x || y",
    "Xor": "!x != !y",
    "PRelu": "x < 0 ? x * y : x",
}
_MODULO = """\
static {type} modulo_{pool}({type} x, {type} y) {{
  const {type} rest = x % y;
  return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}}"""


def pointwise(node: Node, code: Code, expression: str, inputs: Sequence[Tensor]) -> None:
    """Add one loop: the inputs are called x, y, z; numbers of the first one's type.

    Args:
        node: The node.
        code: What it is added to.
        expression: In C; ``{type}`` and ``{f}``, the suffix of functions, are those of x.
        inputs: They are broadcast.
    """
    output = node.output()
    kind = C_TYPES[pool_of(inputs[0])]
    text = expression.replace("{type}", kind).replace("{f}", "f" if kind == "float" else "")
    if kind == "uint8_t" and output.dtype == np.bool_:
        text = f"(uint8_t)({text})"
    target = code.operand(output)
    operands = [code.operand(each) for each in inputs]
    strides = [broadcast(each.shape, output.shape) for each in inputs]

    def body(indices: Sequence[Index]) -> list[str]:
        places = indices[1:]
        lines = [
            f"const {operand.type} {name} = {operand.at(place)};"
            for name, operand, place in zip("xyzw", operands, places, strict=False)
        ]
        assigned = f"{target.at(indices[0])} = {text};"
        return ["{", *lines, assigned, "}"]

    code.loops(output.shape, [contiguous(output.shape), *strides], body)


def _unary(expression: str) -> Emit:
    return lambda node, code: pointwise(node, code, expression, [node.given(0)])


def _binary(expression: str) -> Emit:
    return lambda node, code: pointwise(node, code, expression, [node.given(0), node.given(1)])


def _extreme(node: Node, code: Code) -> None:
    """Min or Max of any number of inputs; NaN wins."""
    sign = "<" if node.kind == "Min" else ">"
    inputs = [node.given(place) for place in range(len(node.inputs))]
    if len(inputs) > 4:
        raise node.unsupported("of more than four inputs")
    names = "xyzw"[: len(inputs)]
    kind = C_TYPES[pool_of(inputs[0])]
    function = f"{node.kind.lower()}imum_{pool_of(inputs[0])}"
    text = names[0]
    for name, each in zip(names[1:], inputs[1:], strict=True):
        if len(inputs) == 2 and each.value is not None and not np.isnan(each.value).any():
            text = f"y {sign} x ? y : x"
            break
        code.helper(
            function,
            f"static {kind} {function}({kind} x, {kind} y) {{\n"
            f"  return y {sign} x || y != y ? y : x;\n}}",
        )
        text = f"{function}({text}, {name})"
    pointwise(node, code, text, inputs)


def _clip(node: Node, code: Code) -> None:
    """Clip to bounds of one number each, of which either may be left out."""
    text, inputs = "x", [node.given(0)]
    for place, sign in ((1, "<"), (2, ">")):
        bound = node.optional(place)
        if bound is not None:
            name = "xyz"[len(inputs)]
            text = f"({text}) {sign} {name} ? {name} : ({text})"
            inputs.append(bound)
    pointwise(node, code, text, inputs)


def _where(node: Node, code: Code) -> None:
    pointwise(node, code, "x ? y : z", [node.given(place) for place in range(3)])


def _cast(node: Node, code: Code) -> None:
    output = node.output()
    kind = C_TYPES[pool_of(output)]
    text = "x != 0" if output.dtype == np.bool_ else f"({kind})x"
    pointwise(node, code, text, [node.given(0)])


def _power(node: Node, code: Code) -> None:
    base, exponent = node.given(0), node.given(1)
    if exponent.value is not None and exponent.size == 1 and exponent.value.item() == 2:
        pointwise(node, code, "x * x", [base])
    elif base.dtype.kind != "f":
        raise node.unsupported("of whole numbers")
    else:
        pointwise(node, code, "pow{f}(x, y)", [base, exponent])


def _modulo(node: Node, code: Code) -> None:
    first = node.given(0)
    if node.attributes.get("fmod", 0) and first.dtype.kind == "f":
        return pointwise(node, code, "fmod{f}(x, y)", [first, node.given(1)])
    if first.dtype.kind != "i" or node.attributes.get("fmod", 0):
        raise node.unsupported(f"of type {first.dtype.name}")
    pool = pool_of(first)
    name = code.helper(f"modulo_{pool}", _MODULO.format(type=C_TYPES[pool], pool=pool))
    return pointwise(node, code, f"{name}(x, y)", [first, node.given(1)])


def _slope(node: Node, code: Code) -> None:
    """Leaky rectifiers and exponential units, whose numbers are attributes."""
    given = node.attributes
    usual = {"LeakyRelu": 0.01, "Elu": 1.0, "Celu": 1.0, "Selu": 1.67326319217681884765625}
    alpha = number(np.float32(given.get("alpha", usual[node.kind])))
    gamma = number(np.float32(given.get("gamma", 1.05070102214813232421875)))
    text = {
        "LeakyRelu": f"x < 0 ? {alpha} * x : x",
        "Elu": f"x < 0 ? {alpha} * expm1{{f}}(x) : x",
        "Celu": f"x < 0 ? {alpha} * expm1{{f}}(x / {alpha}) : x",
        "Selu": f"{gamma} * (x < 0 ? {alpha} * expm1{{f}}(x) : x)",
    }[node.kind]
    pointwise(node, code, text, [node.given(0)])


def _gelu(node: Node, code: Code) -> None:
    text = "0.5f * x * (1 + erf{f}(x * 0.70710678118654752440f))"
    if node.attributes.get("approximate", b"none") == b"tanh":
        inner = "0.79788456080286535588f * (x + 0.044715f * x * x * x)"
        text = f"0.5f * x * (1 + tanh{{f}}({inner}))"
    pointwise(node, code, text, [node.given(0)])


EMITTERS: dict[str, Emit] = {
    **{kind: _unary(f"{name}{{f}}(x)") for kind, name in _PLAIN.items()},
    **{kind: _unary(text) for kind, text in _UNARY.items()},
    **{kind: _binary(text) for kind, text in _BINARY.items()},
    **dict.fromkeys(("Min", "Max"), _extreme),
    **dict.fromkeys(("LeakyRelu", "Elu", "Celu", "Selu"), _slope),
    "Cast": _cast,
    "Clip": _clip,
    "Gelu": _gelu,
    "Mod": _modulo,
    "Pow": _power,
    "Where": _where,
}
