"""What the exporter needs of a learner, and what it makes of it: tensors in, tensors out.

A learner has ``spec`` and ``forward(observation, task=None) -> action``, and ``scores(observation,
task)`` if its actions are discrete. That is all a policy without memory needs. One that keeps a
state, takes noise or answers with chunks has, each only where it applies,

- ``initial_state(n) -> dict``: tensors ``[n, ...]`` by name, float32 or int64; ``action_state``:
  name of the one that holds past actions ``[n, P, ...]``, in which what is executed is noted;
- ``acting_noise``: how many standard normal numbers S a step needs; ``zero_noise``: whether zeros
  in their place are a policy that was meant (the mean of a CVAE), False if left out;
- ``sampler``: how noise becomes actions, see :mod:`hindsight_rl.export.steps`;
- ``chunk``: ``length``, ``execute``, ``ensemble`` and, where actions are committed while the policy
  computes, ``committed``: D of them, which lie in the state as ``committed [n, D, A]``;
  ``committed_count [n]`` int64 says how many are there;
- ``decide(observation, task, state, noise) -> Decision``: action ``[n, A]``, ``[n, C, A]`` with
  chunks, or ``[n]`` int64 counted from 0; the next state; and, where the action is an argmax
  (discrete actions, components of a mixture, candidates), the scores ``[n, M]``;
- ``drawn_policy()``: a policy of this kind that draws its actions from ``drawing_noise(observation,
  task)`` in the place of ``acting_noise``, and whose decisions hold their ``distribution``.

Observations of several entries come as a dictionary of tensors. ``not_exported`` is the reason of a
learner that has no file.
"""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hindsight_rl.export.draws import counters, normals, uniforms
from hindsight_rl.export.torch_graph import ExportError
from hindsight_rl.ports import Decision, Described, DrawNoise, Exported
from hindsight_rl.spec import Spec

LONGEST = 32
"""Probe rows of one episode, where a state is carried."""


@dataclass(frozen=True)
class Exportable:
    """A policy as plain tensors.

    Attributes:
        module: From the inputs, in their order, to the outputs, in theirs.
        given: Probe rows ``[R, ...]`` of each input that a caller gives, and of the noise.
        state: Initial value ``[...]`` of each part of the state, by its name.
        outputs: Names of what the module returns.
        stated: The contract's entries on observation, task, action, scores, state, noise, sampler,
            chunk, and distribution where actions are drawn.
        first: ``[R]`` bool, where an episode of the probe rows begins.
    """

    module: "_Flat"
    given: dict[str, Tensor]
    state: dict[str, Tensor]
    outputs: list[str]
    stated: dict[str, Any]
    first: Tensor

    def inputs(self) -> dict[str, Tensor]:
        """Return an example ``[R, ...]`` of every input of the graph."""
        rows = len(self.first)
        kept = {f"state.{name}": value.expand(rows, *value.shape) for name, value in
                self.state.items()}  # fmt: skip
        ordered = {name: value for name, value in self.given.items() if name != "noise"} | kept
        return ordered | {name: value for name, value in self.given.items() if name == "noise"}

    def answers(self) -> dict[str, Tensor]:
        """Return what the learner answers to its probe rows.

        Returns:
            ``[R, ...]`` by output; ``log_prob`` in the place of the numbers of a distribution.

        Raises:
            ExportError: An answer is not finite.
        """
        with torch.no_grad():
            found = self._played() if self.state else dict(
                zip(self.outputs, self.module(*self.inputs().values()), strict=True)
            )  # fmt: skip
        for name, answer in found.items():
            if not bool(torch.isfinite(answer).all()):
                raise ExportError(
                    f"the learner's {name} is not finite on its own probe rows: training diverged. "
                    "Export an earlier checkpoint."
                )
        numbers = [name for name in found if name.startswith("distribution.")]
        if numbers:
            with torch.no_grad():
                found["log_prob"] = self.module.log_prob(found["action"], *self.inputs().values())
        return {name: answer for name, answer in found.items() if name not in numbers}

    def _played(self) -> dict[str, Tensor]:
        """Return the answers to whole episodes, each with the state that it led to itself."""
        inputs = self.inputs()
        rows: list[dict[str, Tensor]] = []
        for row in range(len(self.first)):
            if not self.first[row]:
                for name in self.state:
                    inputs[f"state.{name}"] = rows[-1][f"next_state.{name}"]
            else:
                inputs |= {f"state.{name}": value[None] for name, value in self.state.items()}
            feed = [
                value if name.startswith("state.") else value[row : row + 1]
                for name, value in inputs.items()
            ]
            rows.append(dict(zip(self.outputs, self.module(*feed), strict=True)))
        names = [name for name in self.outputs if not name.startswith("next_state.")]
        return {name: torch.cat([row[name] for row in rows]) for name in names}


def exportable_of(learner: Exported) -> Exportable:
    """Return what is exported of a learner.

    Args:
        learner: As this module's docstring says.

    Returns:
        The policy as plain tensors.

    Raises:
        ExportError: Its spec is missing, or says too little.
    """
    spec = spec_of(learner)
    entries = [] if spec.whole else list(spec.observation)
    given = _observations(spec) | _tasks(spec)
    rows = len(next(iter(given.values())))
    initial = getattr(learner, "initial_state", None)
    state = {} if initial is None else {name: value[0] for name, value in initial(1).items()}
    first = torch.arange(rows) % LONGEST == 0 if state else torch.ones(rows, dtype=torch.bool)
    noise = _noise_of(learner, given, entries)
    width = noise.width
    if width:
        given["noise"] = _drawn(first, noise)
    module = _Flat(learner, entries, "task" in given, list(state), bool(width))
    examples = [value[:1] for value in given.values() if value is not given.get("noise")]
    examples += [value[None] for value in state.values()]
    with torch.no_grad():
        tried = module.decided(*examples, *([given["noise"][:1]] if width else []))
    outputs = ["action", *([] if tried.scores is None else ["scores"])]
    outputs += [f"next_state.{name}" for name in state]
    if tried.distribution is not None:
        numbers = tried.distribution.numbers
        drawn = {"action": tried.action} | numbers
        module.rows = {name: tuple(value.shape[1:]) for name, value in drawn.items()}
        outputs += [f"distribution.{name}" for name in numbers]
    chunk, sampler = getattr(learner, "chunk", None), getattr(learner, "sampler", None)
    plain = spec.to_dict()
    stated = {
        "observation": plain["observation"],
        "task": plain["task"],
        "scores": None if tried.scores is None else {"shape": list(tried.scores.shape[1:])},
        "state": [
            _stated(name, value, actions=name == getattr(learner, "action_state", None))
            for name, value in state.items()
        ],
        "noise": {"shape": [width], "distribution": noise.distribution, "zero": noise.zero}
        if width
        else None,
        "sampler": None if sampler is None else sampler.describe(),
        "chunk": None if chunk is None else _chunk(chunk),
    }
    if tried.distribution is not None:
        stated["distribution"] = _distribution(tried.distribution)
    return Exportable(module, given, state, outputs, stated, first)


class _Flat(nn.Module):
    """The policy as plain tensors in a fixed order, in and out."""

    def __init__(
        self, learner: Exported, entries: list[str], task: bool, state: list[str], noise: bool
    ) -> None:
        super().__init__()
        self.learner = learner
        action = spec_of(learner).action
        self._discrete, self._start = action.discrete, action.start
        self._entries, self._task, self._state, self._noise = entries, task, state, noise
        self.rows: dict[str, tuple[int, ...]] = {}  # shape of a row of what is drawn

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the action, its scores, the next state, and the numbers of its distribution.

        Of these the action is always there; scores where it is their argmax.
        """
        found = self.decided(*tensors)
        # In the graph, so that every runtime answers in the environment's numbers.
        action = found.action + self._start if self._start else found.action
        scores = () if found.scores is None else (found.scores,)
        drawn: list[Tensor] = []
        if found.distribution is not None:
            action, *drawn = self._shaped({"action": action} | found.distribution.numbers)
        return (action, *scores, *(found.state[name] for name in self._state), *drawn)

    def _shaped(self, numbers: dict[str, Tensor]) -> list[Tensor]:
        """Return numbers ``[N, ...]`` whose row shape the graph knows; tracing loses it."""
        return [value.reshape(-1, *self.rows[name]) for name, value in numbers.items()]

    def log_prob(self, action: Tensor, *tensors: Tensor) -> Tensor:
        """Return how likely the learner says that its answers ``[R, ...]`` are, ``[R]`` nats."""
        observation, task, _ = self._given(tensors)
        stated = getattr(self.learner, "log_prob")  # noqa: B009
        found: Tensor = stated(observation, action - self._start if self._start else action, task)
        return found

    def _given(
        self, tensors: tuple[Tensor, ...]
    ) -> tuple[Tensor | dict[str, Tensor], Tensor | None, list[Tensor]]:
        """Return the observation, the task, and what else is given."""
        left = list(tensors)
        entries = {name: left.pop(0) for name in self._entries}
        observation = entries or left.pop(0)
        return observation, left.pop(0) if self._task else None, left

    def decided(self, *tensors: Tensor) -> Decision:
        """Return what the learner decides, choices counted from 0."""
        observation, task, left = self._given(tensors)
        state = {name: left.pop(0) for name in self._state}
        return self._decide(observation, task, state, left.pop(0) if self._noise else None)

    def _decide(
        self,
        observation: Tensor | dict[str, Tensor],
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None,
    ) -> Decision:
        decide = getattr(self.learner, "decide", None)
        if decide is not None:
            found: Decision = decide(observation, task, state, noise)
            return found
        if not self._discrete:
            return Decision(self.learner(observation, task), {}, None)
        scores: Tensor = getattr(self.learner, "scores")(observation, task)  # noqa: B009
        return Decision(scores.argmax(dim=-1), {}, scores)


def check_exported(learner: object) -> None:
    """Raise where a learner has no file.

    Args:
        learner: The learner.

    Raises:
        ExportError: It says so itself, and why.
    """
    reason = getattr(learner, "not_exported", "")
    if reason:
        raise ExportError(f"{type(learner).__name__} is not exported: {reason}.")


def spec_of(learner: object) -> Spec:
    """Return the spec of a learner.

    Args:
        learner: The learner.

    Returns:
        Its spec.

    Raises:
        ExportError: It has none.
    """
    spec = getattr(learner, "spec", None)
    if not isinstance(spec, Spec):
        raise ExportError(
            f"{type(learner).__name__} has no spec with probe rows. Fit it on a datamodule, or "
            "give its constructor the spec of one."
        )
    return spec


def _observations(spec: Spec) -> dict[str, Tensor]:
    """Return the probe rows of each observed entry, by input of the graph."""
    found = {
        "observation" if spec.whole else f"observation.{name}": _rows(
            spec.probe.observation.get(name), name
        )
        for name in spec.observation
    }
    if all(bool((rows == rows[:1]).all()) for rows in found.values()) or not all(
        bool(torch.isfinite(rows).all()) for rows in found.values()
    ):
        raise ExportError(
            "the learner's probe observations are all alike or not finite, so that agreement on "
            "them would show nothing. Check the log it was fitted to."
        )
    return found


def _tasks(spec: Spec) -> dict[str, Tensor]:
    """Return the probe rows of the task, where there is one."""
    return {} if spec.task is None else {"task": _rows(spec.probe.task, "task")}


def _rows(rows: NDArray[Any] | None, name: str) -> Tensor:
    """Return probe rows, a copy: an array may be read-only."""
    if rows is None or len(rows) == 0:
        raise ExportError(f"the learner's spec has no probe rows for {name}")
    return torch.from_numpy(rows.copy())


def _noise_of(learner: Exported, given: dict[str, Tensor], entries: list[str]) -> DrawNoise:
    """Return the noise that an answer is made of."""
    asked = getattr(learner, "drawing_noise", None)
    if asked is None:
        zero = bool(getattr(learner, "zero_noise", False))
        return DrawNoise(int(getattr(learner, "acting_noise", 0)), "normal", zero)
    row = {name: value[:1] for name, value in given.items()}
    observed = {name: row[f"observation.{name}"] for name in entries} or row["observation"]
    with torch.no_grad():
        found: DrawNoise = asked(observed, row.get("task"))
    return found


def _drawn(first: Tensor, noise: DrawNoise) -> Tensor:
    """Return the noise of probe rows, ``[R, S]``."""
    episode = first.cumsum(0) - 1
    step = torch.arange(len(first)) - torch.where(first)[0][episode]
    draw = normals if noise.distribution == "normal" else uniforms
    return torch.from_numpy(draw(counters(0, episode.numpy(), step.numpy()), noise.width))


def _distribution(described: Described) -> dict[str, Any]:
    """Return what a contract says of the distribution that actions are drawn from."""
    stated: dict[str, Any] = {"kind": described.kind}
    if described.kind == "mixture":
        stated["components"] = described.numbers["logits"].shape[-1]
    return stated


def _chunk(chunk: Any) -> dict[str, Any]:
    """Return what a contract says of chunks."""
    stated = {name: getattr(chunk, name) for name in ("length", "execute", "ensemble")}
    committed = getattr(chunk, "committed", 0)
    return stated | ({"committed": committed} if committed else {})


def _stated(name: str, value: Tensor, *, actions: bool) -> dict[str, Any]:
    """Return what a contract says of a part of the state."""
    dtype = str(value.dtype).removeprefix("torch.")
    zero = not bool(value.any())
    stated = {
        "name": name,
        "shape": list(value.shape),
        "dtype": dtype,
        "initial": None if zero else value.tolist(),
    }
    return stated | ({"actions": True} if actions else {})
