"""The C functions that a control loop calls, and their struct: as the contract says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hindsight_rl.export.c.code import Code, Operand
from hindsight_rl.export.c.graph import CodeError, Graph
from hindsight_rl.export.c.memory import C_TYPES, POOLS, Plan
from hindsight_rl.export.c.text import array, identifier, number
from hindsight_rl.export.signature import Input, Signature

_TYPES = {"vector": "float", "image": "uint8_t", "discrete": "int64_t"}
_FINITE = """\
static int finite(const float *x, int count) {
  float sum = 0;
  int j;
  for (j = 0; j < count; ++j) sum += 0 * x[j]; /* NaN for NaN and for infinity */
  return sum == 0;
}"""
_CHOICES = """\
static int choices(const int64_t *x, int count, int64_t n) {
  int j;
  for (j = 0; j < count; ++j)
    if (x[j] < 0 || x[j] >= n) return 0;
  return 1;
}"""


@dataclass(frozen=True)
class Interface:
    """What stands between a caller and the graph.

    Attributes:
        name: Begins every name of the file.
        signature: Of the contract.
        graph: What is computed.
        code: Its body.
        plan: Its memory.
    """

    name: str
    signature: Signature
    graph: Graph
    code: Code
    plan: Plan

    @property
    def upper(self) -> str:
        """The name as constants begin with it."""
        return self.name.upper()

    def parameters(self) -> dict[str, Input]:
        """Return what a caller gives, by the names of the parameters.

        Returns:
            The inputs.

        Raises:
            CodeError: Two entries have the same name in C.
        """
        found: dict[str, Input] = {}
        for given in self.signature.given:
            name = given.name
            if name.startswith("observation."):
                name = f"observation_{word(given.label)}"
            if name in found:
                raise CodeError(f"two entries are called {name} in C: rename one of them")
            found[name] = given
        return found

    def fields(self) -> list[str]:
        """Return the fields of the struct."""
        fields = ["/* Carried from call to call. */"]
        for kept in self.signature.state:
            kind = C_TYPES[POOLS[kept.dtype]]
            fields.append(f"{kind} state_{word(kept.name)}[{_size(kept.shape)}];")
        chunk = self.signature.chunk
        if chunk is not None and chunk.ensemble is None:
            fields += [f"{self.action_type} queue[{chunk.length * self.width}];", "int taken;"]
        elif chunk is not None:
            fields += [f"double sum[{chunk.length * self.width}];", f"int count[{chunk.length}];"]
        if self.signature.noise is not None:
            fields += ["uint64_t seed;", "uint32_t episode;"]
        fields.append("uint32_t step; /* since the episode began */")
        if self.told:
            fields.append("/* Of the last answer. */")
            sizes = {name: self.graph.outputs[name].size for name in self.told}
            fields += [f"float {word(name)}[{size}];" for name, size in sizes.items()]
        fields.append("/* In use during a call only. */")
        fields += [f"{C_TYPES[pool]} {pool}[{size}];" for pool, size in self.plan.sizes.items()]
        names = [line.partition("[")[0].split()[-1] for line in fields if "[" in line]
        if len(set(names)) < len(names):
            raise CodeError(f"two parts of the state have the same name in C: {sorted(names)}")
        return fields

    @property
    def action_type(self) -> str:
        """C type of an action's numbers."""
        return "int64_t" if self.signature.action.discrete else "float"

    @property
    def width(self) -> int:
        """How many numbers an action has."""
        return _size(self.signature.action.shape)

    @property
    def told(self) -> list[str]:
        """Outputs that a caller may read after a call: scores, and distributions."""
        wanted = ("scores", "distribution.")
        return [name for name in self.graph.outputs if name.startswith(wanted)]

    def prototypes(self) -> list[str]:
        """Return the declarations of the functions."""
        reset = [f"{self.name}_state *state"]
        if self.signature.noise is not None:
            reset += ["uint64_t seed", "uint32_t episode"]
        found = [
            f"void {self.name}_reset({', '.join(reset)})",
            f"int {self.name}_act({self._act()})",
        ]
        if self._past():
            action = f"const {self.action_type} action[{self.width}]"
            found.append(f"void {self.name}_executed({self.name}_state *state, {action})")
        return found

    def functions(self) -> Iterator[str]:
        """Yield the definitions of all functions but that of the graph."""
        yield from self._checks()
        yield from (self._take(), self._settle(), self._reset(), self._act_body())
        if self._past():
            yield self._executed()

    def _checks(self) -> Iterator[str]:
        yield _FINITE
        if any(given.kind == "discrete" for given in self.signature.given):
            yield _CHOICES

    def _act(self) -> str:
        words = [f"{self.name}_state *state"]
        for name, given in self.parameters().items():
            words.append(f"const {_given_type(given)} {name}[{_size(given.shape)}]")
        return ", ".join([*words, f"{self.action_type} action[{self.width}]"])

    def place(self, name: str) -> Operand:
        """Return where an input of the graph lies, as a function that has the struct sees it."""
        found = self.code.operand(self.graph.inputs[name], whole=True)
        return Operand(f"state->{found.array}", found.offset, "", found.type)

    def result(self, name: str) -> Operand:
        """Return where an output of the graph lies, likewise."""
        tensor = self.graph.outputs[name]
        found = self.code.operand(tensor, whole=True)
        where = found.array if tensor.value is not None else f"state->{found.array}"
        return Operand(where, found.offset, "", found.type)

    def _take(self) -> str:
        """Return the function that checks what is given and puts it where the graph reads it."""
        words = self._act().rsplit(", ", 1)[0]
        lines = [f"static int take({words}) {{", "  int j;"]
        for name, given in self.parameters().items():
            fault = f"{self.upper}_{'TASK' if name == 'task' else 'OBSERVATION'}"
            source = name
            if name == "task":
                if given.default is None:
                    lines.append(f"  if (!task) return {fault};")
                else:
                    default = np.asarray(given.default, np.float32)
                    lines.insert(0, array("float", "default_task", default))
                    source = "(task ? task : default_task)"
            size, target = _size(given.shape), self.place(given.name)
            value = f"{source}[j]"
            if given.offset is not None:
                lines.insert(0, array("double", f"offset_{name}", given.offset))
                value = f"(float)({value} - offset_{name}[j])"
            lines.append(f"  for (j = 0; j < {size}; ++j) {target.at('j')} = {value};")
            if given.kind == "vector":
                lines.append(f"  if (!finite({target.pointer}, {size})) return {fault};")
            elif given.kind == "discrete":
                lines.append(
                    f"  if (!choices({target.pointer}, {size}, {given.n})) return {fault};"
                )
        return "\n".join([*lines, f"  return {self.upper}_OK;", "}"])

    def _settle(self) -> str:
        """Return the function that checks the graph's answer and takes over the next state."""
        lines = [f"static int settle({self.name}_state *state) {{", "  int j;"]
        for name, tensor in self.graph.outputs.items():
            if tensor.dtype == np.float32 and tensor.value is None:
                lines.append(
                    f"  if (!finite({self.result(name).pointer}, {tensor.size})) return 0;"
                )
        for kept in self.signature.state:
            source = self.result(f"next_state.{kept.name}")
            lines.append(_copy(f"state->state_{word(kept.name)}", source, _size(kept.shape)))
        for name in self.told:
            size = self.graph.outputs[name].size
            lines.append(_copy(f"state->{word(name)}", self.result(name), size))
        return "\n".join([*_used(lines), "  return 1;", "}"])

    def _reset(self) -> str:
        """Return the function that begins an episode."""
        before, lines = [], [f"{self.prototypes()[0]} {{", "  int j;"]
        for kept in self.signature.state:
            field, size = word(kept.name), _size(kept.shape)
            value = "0"
            if np.any(kept.initial):
                kind = C_TYPES[POOLS[kept.dtype]]
                before.append(array(kind, f"initial_{field}", kept.initial.astype(kept.dtype)))
                value = f"initial_{field}[j]"
            lines.append(f"  for (j = 0; j < {size}; ++j) state->state_{field}[j] = {value};")
        chunk = self.signature.chunk
        if chunk is not None and chunk.ensemble is None:
            lines.append(f"  state->taken = {chunk.execute};")
        elif chunk is not None:
            size = chunk.length * self.width
            lines.append(f"  for (j = 0; j < {size}; ++j) state->sum[j] = 0;")
            lines.append(f"  for (j = 0; j < {chunk.length}; ++j) state->count[j] = 0;")
        if self.signature.noise is not None:
            lines += ["  state->seed = seed;", "  state->episode = episode;"]
        for name in self.told:
            size = self.graph.outputs[name].size
            lines.append(f"  for (j = 0; j < {size}; ++j) state->{word(name)}[j] = 0;")
        lines.append("  state->step = 0;")
        return "\n".join([*before, *_used(lines), "}"])

    def _act_body(self) -> str:
        """Return the function that answers."""
        words = ["state", *self.parameters()]
        lines = [
            f"{self.prototypes()[1]} {{",
            f"  const int fault = take({', '.join(words)});",
            "  int j;",
            "  if (fault) return fault;",
        ]
        answer, chunk = self.result("action"), self.signature.chunk
        if chunk is None:
            lines += self._asked("  ")
            lines.append(f"  for (j = 0; j < {self.width}; ++j) action[j] = {answer.at('j')};")
        elif chunk.ensemble is None:
            size = chunk.length * self.width
            lines += [f"  if (state->taken >= {chunk.execute}) {{", *self._asked("    ")]
            lines += [
                f"    for (j = 0; j < {size}; ++j) state->queue[j] = {answer.at('j')};",
                "    state->taken = 0;",
                "  }",
                f"  for (j = 0; j < {self.width}; ++j)",
                f"    action[j] = state->queue[{self.width} * state->taken + j];",
                "  ++state->taken;",
            ]
        else:
            lines += [*self._asked("  "), *self._averaged(answer)]
        lines += ["  ++state->step;", f"  return {self.upper}_OK;", "}"]
        return "\n".join(_used(lines))

    def _asked(self, indent: str) -> list[str]:
        """Return the lines that run the graph."""
        lines = []
        noise = self.signature.noise
        if noise is not None:
            target = self.place("noise").pointer
            drawn = (
                f"draw_noise({target}, {noise.width}, state->seed, state->episode, state->step);"
            )
            lines.append(drawn)
            if noise.zero:
                zeros = f"for (j = 0; j < {noise.width}; ++j) {self.place('noise').at('j')} = 0;"
                lines = [f"#ifdef {self.upper}_DETERMINISTIC", zeros, "#else", drawn, "#endif"]
        lines += ["run(state);", f"if (!settle(state)) return {self.upper}_ANSWER;"]
        return [line if line.startswith("#") else indent + line for line in lines]

    def _averaged(self, answer: Operand) -> list[str]:
        """Return the lines that average all answers for this step, the newest among them."""
        chunk = self.signature.chunk
        assert chunk is not None and chunk.ensemble is not None
        length, width = chunk.length, self.width
        fade = np.exp(-chunk.ensemble * np.arange(length))
        values = ", ".join(number(each) for each in fade)
        total = ", ".join(number(each) for each in fade.cumsum())
        return [
            "  {",
            f"    static const double fade[{length}] = {{{values}}};",
            f"    static const double total[{length}] = {{{total}}};",
            "    int k;",
            f"    for (k = 0; k < {length}; ++k) {{",
            f"      for (j = 0; j < {width}; ++j)",
            f"        state->sum[{width} * k + j] +=",
            f"            fade[state->count[k]] * (double){answer.at(f'{width} * k + j')};",
            "      ++state->count[k];",
            "    }",
            f"    for (j = 0; j < {width}; ++j)",
            f"      action[j] = ({self.action_type})(state->sum[j] / total[state->count[0] - 1]);",
            f"    for (j = 0; j < {width * (length - 1)}; ++j)"
            f" state->sum[j] = state->sum[j + {width}];",
            f"    for (; j < {width * length}; ++j) state->sum[j] = 0;",
            f"    for (k = 0; k < {length - 1}; ++k) state->count[k] = state->count[k + 1];",
            f"    state->count[{length - 1}] = 0;",
            "  }",
        ]

    def _past(self) -> list[tuple[str, int]]:
        """Return name and last place of each part of the state that holds actions."""
        return [
            (word(kept.name), (kept.shape[0] - 1) * self.width)
            for kept in self.signature.state
            if kept.actions
        ]

    def _executed(self) -> str:
        """Return the function that notes what was executed."""
        chunk, start = self.signature.chunk, self.signature.action.start
        moved = "!state->step"
        if chunk is not None and chunk.ensemble is None:
            moved += " || state->taken != 1"
        lines = [f"{self.prototypes()[2]} {{", "  int j;", f"  if ({moved}) return;"]
        value = f"action[j] - {start}" if start else "action[j]"
        for name, last in self._past():
            place = f"{last} + j" if last else "j"
            loop = f"for (j = 0; j < {self.width}; ++j)"
            lines.append(f"  {loop} state->state_{name}[{place}] = {value};")
        return "\n".join([*lines, "}"])


def _copy(target: str, source: Operand, size: int) -> str:
    return f"  for (j = 0; j < {size}; ++j) {target}[j] = {source.at('j')};"


def _used(lines: Sequence[str]) -> list[str]:
    """Return lines without the declaration of j where no loop uses it."""
    loops = any("(j = 0" in line for line in lines)
    return [line for line in lines if loops or line != "  int j;"]


def _given_type(given: Input) -> str:
    return "double" if given.offset is not None else _TYPES[given.kind]


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def word(name: str) -> str:
    """Return a name of the contract as a part of one of C.

    Args:
        name: Of an entry, a part of the state or an output.

    Returns:
        The name.

    Raises:
        CodeError: Nothing of it may stand in a name of C.
    """
    try:
        return identifier(f"x{name}")[1:].strip("_") or "x"
    except ValueError as error:
        raise CodeError(str(error)) from error
