"""The probe of a contract as a C program: the file proves itself where it is compiled."""

import numpy as np

from hindsight_rl.export.c.interface import Interface
from hindsight_rl.export.c.memory import C_TYPES, POOLS
from hindsight_rl.export.c.text import array, number
from hindsight_rl.export.contract import Contract
from hindsight_rl.export.probe import Probe
from hindsight_rl.export.verify import action_range, lead

MOST = 2**20
"""Most numbers that probe rows are written with: those of images would be most of the file."""
_FEWEST = 8
_MAIN = """\
#ifdef {upper}_SELF_TEST
#include <stdio.h>
{tables}
int main(void) {{
  static {name}_state memory;
  {name}_state *const state = &memory;
  int row, j, wrong = 0, tied = 0, since = 0;
  double most = 0;
  for (row = 0; row < {rows}; ++row) {{
    double apart = 0;
    if (probe_first[row]) {{
      {name}_reset(state{seed});
      since = 0;
    }}
{feed}
    run(state);
    if (!settle(state)) {{
      printf("{name}: row %d: the answer is not finite\\n", row);
      return 1;
    }}
{compare}
    if (!probe_clear[row]) ++tied;
    else if (apart > most) most = apart;
    ++since;
  }}
{verdict}
}}
#endif"""


def self_test(interface: Interface, contract: Contract, probe: Probe) -> str:
    """Return a C program, compiled with ``-DNAME_SELF_TEST``, that plays the probe rows.

    Of images only the first rows are played, as many as make a million numbers. The program prints
    one line. It exits with 0 if no choice differs, and real actions differ by no more of their
    range than the contract's tolerance; with a state that grows as ``verify`` says.

    Args:
        interface: Of the file.
        contract: Its contract.
        probe: Its probe rows.

    Returns:
        C.
    """
    signature = interface.signature
    numbers = sum(values[0].size for values in probe.inputs.values())
    rows = min(len(probe.starts), max(_FEWEST, MOST // numbers))
    clear = np.ones(rows, np.int64)
    if probe.scores is not None:
        clear = (lead(probe.scores[:rows]) > contract["parity"]["margin"]).astype(np.int64)
    tables = [
        array("int", "probe_first", probe.starts[:rows].astype(np.int64)),
        array("int", "probe_clear", clear),
    ]
    feed: list[str] = []
    for name, values in probe.inputs.items():
        word, kind = name.replace(".", "_"), interface.graph.inputs[name].dtype
        table = f"probe_{''.join(c if c.isalnum() else '_' for c in word)}_{len(feed)}"
        tables.append(array(C_TYPES[POOLS[kind.name]], table, values[:rows].astype(kind)))
        size = values[0].size
        place = interface.place(name).at("j")
        feed.append(f"    for (j = 0; j < {size}; ++j) {place} = {table}[{size} * row + j];")
    discrete = signature.action.discrete
    compare, more, verdict = _choices(interface) if discrete else _numbers(interface, contract)
    answers = probe.action[:rows].astype(np.int64 if discrete else np.float32)
    tables.append(array(interface.action_type, "probe_action", answers))
    size = probe.action[0].size
    return _MAIN.format(
        upper=interface.upper,
        name=interface.name,
        tables="\n".join(tables + more),
        rows=rows,
        seed="" if signature.noise is None else ", 0, 0",
        feed="\n".join(feed),
        compare=compare.replace("SIZE", str(size)),
        verdict=verdict.format(name=interface.name, rows=rows, tolerance=_tolerance(contract)),
    )


def _tolerance(contract: Contract) -> str:
    return number(np.float64(contract["parity"]["tolerance"]))


def _choices(interface: Interface) -> tuple[str, list[str], str]:
    """Return how choices are compared and judged."""
    answer = interface.result("action").at("j")
    compare = (
        f"    for (j = 0; j < SIZE; ++j)\n"
        f"      if (probe_clear[row] && {answer} != probe_action[SIZE * row + j]) ++wrong;"
    )
    verdict = (
        '  printf("{name}: %d of {rows} choices differ, %d ties not compared: %s\\n",\n'
        '      wrong, tied, wrong ? "FAILED" : "passed");\n'
        "  (void)most;\n  return wrong != 0;"
    )
    return compare, [], verdict


def _numbers(interface: Interface, contract: Contract) -> tuple[str, list[str], str]:
    """Return how real actions are compared and judged."""
    answer = interface.result("action").at("j")
    ranges = np.broadcast_to(action_range(contract), interface.signature.answer_shape)
    allowed = "since > 10 ? since / 10.0 : 1.0" if interface.signature.state else "1.0"
    compare = (
        "    for (j = 0; j < SIZE; ++j) {\n"
        f"      const double d = {answer} - probe_action[SIZE * row + j];\n"
        f"      const double share = (d < 0 ? -d : d) / probe_range[j] / ({allowed});\n"
        "      if (share > apart) apart = share;\n"
        "    }"
    )
    verdict = (
        "  wrong = most > {tolerance} || tied == {rows};\n"
        '  printf("{name}: largest difference %.3g of the range (tolerance %g) in {rows} rows, "\n'
        '      "%d ties not compared: %s\\n", most, {tolerance}, tied, '
        'wrong ? "FAILED" : "passed");\n'
        "  return wrong;"
    )
    return compare, [array("double", "probe_range", ranges.astype(np.float64))], verdict
