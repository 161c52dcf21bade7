"""What a contract says, as comments and constants of C."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hindsight_rl.export.c.interface import Interface
from hindsight_rl.export.c.text import array, comment, text, wrapped
from hindsight_rl.export.contract import JOINT_COLUMNS

_HEADER = """\
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define {upper}_BUILD BUILD_NUMBER
#define {upper}_MODEL_HASH {hash}
{rate}
enum {{ {sizes} }};

{constants}
typedef struct {{
{fields}
}} {name}_state;

/* What {name}_act returns: 0, or why there is no answer. The state is then as before. */
enum {{
  {upper}_OK = 0,
  {upper}_OBSERVATION = 1, /* an observation is not finite, or none of its choices */
  {upper}_TASK = 2,        /* the task is not finite, or missing and without a default */
  {upper}_ANSWER = 3       /* the answer is not finite: the network overflowed */
}};

{functions}

#ifdef __cplusplus
}}
#endif

#endif"""


def heading(interface: Interface, contract: Mapping[str, Any]) -> str:
    """Return the comment at the top of both files."""
    versions = contract["versions"]
    lines = [
        f"{interface.name}: a policy of {contract['learner']['name']}, written by hindsight export "
        "--target c.",
        f"Graph and weights: {contract['model_hash']}",
        f"hindsight-rl {versions.get('hindsight-rl', 'of another release')}. C99; needs math.h.",
        "",
        f"  {interface.name}_state state;",
        f"  {interface.name}_reset(&state{_seed(interface)}); where an episode begins",
        f"  {interface.name}_act(&state, {', '.join([*interface.parameters(), 'action'])}); at "
        "every step; 0 is success",
    ]
    if len(interface.prototypes()) > 2:
        lines.append(
            f"  {interface.name}_executed(&state, action); after it, where something else was sent"
        )
    lines += [
        "",
        "A state serves one thread. It may be copied, and nothing else is kept.",
        f"Self test: cc -std=c99 -D{interface.upper}_SELF_TEST {interface.name}.c -lm && ./a.out",
    ]
    body = "\n".join(f" * {comment(line)}".rstrip() for line in lines)
    return f"/*\n{body}\n */"


def declared(interface: Interface, contract: Mapping[str, Any]) -> str:
    """Return the header, without the number of the build."""
    upper = interface.upper
    rate = contract["control_rate_hz"]
    sizes = [
        f"{upper}_{name.upper()}_SIZE = {math.prod(given.shape)}"
        for name, given in interface.parameters().items()
    ]
    sizes.append(f"{upper}_ACTION_SIZE = {interface.width}")
    if interface.signature.action.discrete:
        action = interface.signature.action
        sizes += [f"{upper}_CHOICES = {action.n}", f"{upper}_FIRST_CHOICE = {action.start}"]
    constants = [
        f"extern const {kind} {name}[{len(values)}];{f' /* {note} */' if note else ''}"
        for kind, name, values, note in _arrays(interface, contract)
    ]
    return _HEADER.format(
        upper=upper,
        name=interface.name,
        hash=text(contract["model_hash"]),
        rate=f"#define {upper}_CONTROL_RATE_HZ {float(rate)!r}\n" if rate is not None else "",
        sizes=", ".join(sizes),
        constants="".join(f"{line}\n" for line in constants),
        fields="\n".join(f"  {line}" for line in interface.fields()),
        functions="\n".join(f"{line};" for line in interface.prototypes()),
    )


def defined(interface: Interface, contract: Mapping[str, Any]) -> str:
    """Return the definitions of the constants that the header declares."""
    found = []
    for kind, name, values, _ in _arrays(interface, contract):
        if kind == "float":
            found.append(array(kind, name, np.array(values, np.float32), static=False))
        else:
            words = wrapped([text(str(value)) for value in values])
            found.append(f"const {kind} {name}[{len(values)}] = {{\n{words}\n}};")
    return "\n".join(found)


def _arrays(
    interface: Interface, contract: Mapping[str, Any]
) -> Iterator[tuple[str, str, list[Any], str]]:
    """Yield C type, name, values and a note of every array of facts."""
    prefix = interface.name
    for name, given in interface.parameters().items():
        if given.names is not None:
            yield "char *const", f"{prefix}_{name}_names", list(given.names), ""
    action = contract["action"]
    if action.get("names"):
        yield "char *const", f"{prefix}_action_names", list(action["names"]), ""
    for name, ends in (("low", -math.inf), ("high", math.inf), ("rate_limit", math.inf)):
        values = action.get(name)
        if values is not None:
            note = "units per second; not applied here" if name == "rate_limit" else ""
            yield "float", f"{prefix}_{name}", [ends if v is None else v for v in values], note
    robot = contract.get("robot")
    if robot is not None:
        yield "char *const", f"{prefix}_joints", list(robot["joints"]), "in the driver's order"
        yield "char *const", f"{prefix}_command", [robot["command"]], ""
        for name in JOINT_COLUMNS:
            values = robot.get(name)
            if values is not None:
                filled = [math.nan if value is None else value for value in values]
                yield "float", f"{prefix}_joint_{name}", filled, "NaN: not known"


def _seed(interface: Interface) -> str:
    return "" if interface.signature.noise is None else ", seed, episode"
