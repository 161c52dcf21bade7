"""A policy file as C: its header and its code."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from hindsight_rl.export.c.code import Code
from hindsight_rl.export.c.facts import declared, defined, heading
from hindsight_rl.export.c.graph import CodeError, Graph, read_graph
from hindsight_rl.export.c.interface import Interface, word
from hindsight_rl.export.c.memory import BYTES, C_TYPES, plan
from hindsight_rl.export.c.noise import noise_text
from hindsight_rl.export.c.operators import IN_PLACE, emit, scratch
from hindsight_rl.export.c.self_test import self_test
from hindsight_rl.export.c.text import identifier
from hindsight_rl.export.contract import Contract
from hindsight_rl.export.modelfile import read_policy
from hindsight_rl.export.probe import Probe, probe_of
from hindsight_rl.export.read_signature import signature_of
from hindsight_rl.export.signature import Signature

_GUARD = """\
#if {upper}_BUILD != {build}u
#error "{name}.h is not the header of this {name}.c"
#endif
#ifdef __FAST_MATH__
#error "compile {name}.c without -ffast-math: NaN and infinity must be seen"
#endif"""


@dataclass(frozen=True)
class Source:
    """Two files.

    Attributes:
        name: Without an ending; begins every name in them.
        header: ``NAME.h``.
        code: ``NAME.c``.
        learner: Of the contract.
        memory: Bytes of a ``NAME_state``, nearly: what the compiler aligns is not counted.
    """

    name: str
    header: str
    code: str
    learner: str
    memory: int


def c_source(data: bytes, path: str, name: str) -> Source:
    """Return the C of a policy file.

    Args:
        data: Its bytes.
        path: Where they came from, for messages.
        name: Of the C files.

    Returns:
        Header and code.

    Raises:
        ContractError: The bytes are no policy file that may be run.
        CodeError: The graph has no form in C, or the name is none of C.
    """
    contract, model = read_policy(data, path)
    learner = contract["learner"]["name"]
    try:
        known = identifier(name)
    except ValueError:
        known = ""
    if not known or name != known:
        raise CodeError(
            f"{name}.c: names in it begin with {name}, which is no name of C. Name the "
            "output file by letters, digits and underscores"
        )
    signature = signature_of(contract)
    probe = probe_of(contract, signature)
    try:
        graph = read_graph(model, _row(signature, probe))
        interface = _interface(name, signature, graph)
        return _assembled(interface, contract, probe)
    except CodeError as error:
        raise CodeError(f"{path} ({learner}): {error}") from error


def _row(signature: Signature, probe: Probe) -> dict[str, np.ndarray[Any, Any]]:
    """Return the first probe row, as the graph takes it."""
    found = {name: values[:1] for name, values in probe.inputs.items()}
    return found | {f"state.{kept.name}": kept.initial[None] for kept in signature.state}


def _interface(name: str, signature: Signature, graph: Graph) -> Interface:
    """Return the interface, the body of the graph written."""
    memory = plan(graph, IN_PLACE, scratch)
    code = Code(memory)
    for node in graph.nodes:
        if all(each is None or each.size for each in node.outputs):
            emit(node, code)
    return Interface(name, signature, graph, code, memory)


def _assembled(interface: Interface, contract: Contract, probe: Probe) -> Source:
    name, upper = interface.name, interface.upper
    test = self_test(interface, contract, probe)
    functions = [_run(interface), *interface.functions(), test]
    if interface.signature.noise is not None:
        drawn = noise_text(interface.signature.noise)
        if interface.signature.noise.zero:
            drawn = f"#ifndef {upper}_DETERMINISTIC\n{drawn}\n#endif"
        functions.insert(0, drawn)
    functions = [*interface.code.helpers.values(), *functions]
    used = set(re.findall(r"\bc\d+\b", "\n".join(functions)))  # weights that were laid out anew
    parts = [each for name, each in interface.code.constants.items() if name in used]
    parts += functions
    body = "\n\n".join([defined(interface, contract), *parts])
    title = heading(interface, contract)
    declarations = declared(interface, contract)
    digest = hashlib.sha256(f"{declarations}{body}".encode()).hexdigest()
    build = f"0x{digest[:8]}"
    header = declarations.replace("BUILD_NUMBER", f"{build}u")
    guard = _GUARD.format(name=name, upper=upper, build=build)
    includes = f'#include "{name}.h"\n\n#include <math.h>\n#include <stddef.h>'
    memory = sum(BYTES[pool] * size for pool, size in interface.plan.sizes.items())
    return Source(
        name,
        f"{title}\n{header}\n",
        f"{title}\n{includes}\n\n{guard}\n\n{body}\n",
        contract["learner"]["name"],
        memory,
    )


def _run(interface: Interface) -> str:
    """Return the function of the graph: from its inputs to its outputs, in the struct's memory."""
    code, loaded = interface.code, []
    for kept in interface.signature.state:
        place = code.operand(interface.graph.inputs[f"state.{kept.name}"]).at("j")
        size = int(np.prod(kept.shape, dtype=np.int64))
        field = f"state->state_{word(kept.name)}[j]"
        loaded.append(f"  for (j = 0; j < {size}; ++j) {place} = {field};")
    variables = [*(["j"] if loaded else []), *code.loop_variables()]
    used = " ".join([*loaded, *code.lines])
    pools = [
        f"  {C_TYPES[pool]} *const {pool} = state->{pool};"
        for pool in interface.plan.sizes
        if re.search(rf"\b{pool}\b", used)
    ]
    counters = [f"  int {', '.join(variables)};"] if variables else []
    nothing = [] if pools or loaded else ["  (void)state;"]
    lines = [*pools, *counters, *nothing, *loaded, *code.lines]
    return "\n".join([f"static void run({interface.name}_state *state) {{", *lines, "}"])
