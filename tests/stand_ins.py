"""Small policies with a spec, in the place of fitted learners: what the exporter asks of one.

Imported as ``stand_ins`` (``tests`` is on pytest's path).
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hindsight_rl.ports import Decision
from hindsight_rl.spec import WHOLE, Image, Probe, Spec

LOW, HIGH = [-2.0, -1.0, 0.0], [2.0, 3.0, 0.5]


def spec_of(
    *, discrete: bool = False, task: bool = False, observation: int = 4, rows: int = 32
) -> Spec:
    """Return a spec with O = 4, and A = 3 or n = 3, and Z = 2 if there is a task."""
    draw = np.random.default_rng(7)
    names = ["cart_position", "cart_velocity", "pole_angle", "pole_velocity"]
    action: dict[str, Any] = {"kind": "discrete", "shape": [], "dtype": "int64", "n": 3}
    if not discrete:
        action = {"kind": "continuous", "shape": [3], "dtype": "float32", "low": LOW, "high": HIGH}
    facts = {
        "version": 1,
        "observation": {
            "shape": [observation],
            "dtype": "float32",
            "names": names if observation == len(names) else None,
            "units": None,
            "mean": [0.5] * observation,
            "std": [0.5] * observation,
        },
        "action": action | {"names": ["left", "middle", "right"], "units": None},
        "task": {
            "shape": [2],
            "dtype": "float32",
            "family": "return_to_go",
            "names": None,
            "units": None,
            "mean": [100.0, 0.0],
            "std": [50.0, 1.0],
            "default": [200.0, 0.0],
        }
        if task
        else None,
        "control_rate_hz": 50.0,
        "dataset": {"hash": "sha256:00", "source": ["log.npz"], "rows": 1000, "episodes": 10},
        "probe": {
            "observation": draw.normal(size=(rows, observation)).astype(np.float32).tolist(),
            "task": draw.normal(100, 50, size=(rows, 2)).astype(np.float32).tolist()
            if task
            else None,
        },
    }
    return Spec.from_dict(facts)


def first_numbers(observation: Any, task: Any, env: Any) -> Any:
    """Answer as an expert of two actions: the first two numbers that are observed."""
    return observation[:, :2]


class StandIn(nn.Module):
    """An untrained policy: normalise, two layers of 16 units, squash, unscale, clip or argmax."""

    def __init__(self, **kinds: Any) -> None:
        super().__init__()
        self.spec = spec_of(**kinds)
        self.hparams = {
            "spec": self.spec.to_dict(),
            "temperature": 0.5,
            "make": StandIn,
            "limit": np.inf,
        }
        with torch.random.fork_rng():
            torch.manual_seed(3)
            inputs = self.spec.whole.shape[0] + (2 if self.spec.task else 0)
            self.net = nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, 3))
            self.unused = nn.Linear(500, 500)
        self.dropout = nn.Dropout(0.5)
        for name in ("observation", "task"):
            entry = self.spec.task if name == "task" else self.spec.vector
            mean, std = ((), ()) if entry is None else entry.statistics
            self.register_buffer(f"{name}_mean", torch.tensor(mean))
            self.register_buffer(f"{name}_std", torch.tensor(std))
        self.register_buffer("low", torch.tensor(LOW))
        self.register_buffer("high", torch.tensor(HIGH))

    def scores(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the last layer ``[N, 3]``."""
        parts = [(observation - self.observation_mean) / self.observation_std]
        if task is not None:
            parts.append((task - self.task_mean) / self.task_std)
        return self.dropout(self.net(torch.cat(parts, dim=-1)))

    def forward(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the action ``[N, 3]`` or ``[N]``."""
        scores = self.scores(observation, task)
        if self.spec.action.discrete:
            return scores.argmax(dim=-1)
        share = 0.5 * (torch.tanh(scores) + 1.0)
        action = self.low + share * (self.high - self.low)
        return torch.minimum(torch.maximum(action, self.low), self.high)


class Remembering(StandIn):
    """A policy with a state: it sees a fading sum of its observations, and counts its steps."""

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return the sum (1, -1, 0, 0) and the count 0 of n episodes that begin."""
        start = torch.tensor([1.0, -1.0, 0.0, 0.0])
        return {"sum": start.repeat(n, 1), "count": torch.zeros(n, dtype=torch.int64)}

    def decide(
        self, observation: Tensor, task: Tensor | None, state: dict[str, Tensor], noise: Any = None
    ) -> Decision:
        """Return the stand-in's action for the sum; its scores grow with the count."""
        kept = 0.9 * state["sum"] + observation
        following = {"sum": kept, "count": state["count"] + 1}
        if not self.spec.action.discrete:
            return Decision(self(kept, task), following)
        scores = self.scores(kept, task) * (1.0 + 0.01 * state["count"].unsqueeze(-1))
        return Decision(scores.argmax(-1), following, scores)


class Chunked(StandIn):
    """A policy that answers with four actions, moved by noise."""

    acting_noise = 12

    def __init__(self, **kinds: Any) -> None:
        super().__init__(**kinds)
        self.chunk = SimpleNamespace(length=4, execute=2, ensemble=None)

    def decide(
        self, observation: Tensor, task: Tensor | None, state: dict[str, Tensor], noise: Any = None
    ) -> Decision:
        """Return four actions ``[N, 4, 3]`` within the bounds."""
        ahead = self.scores(observation, task).unsqueeze(1) + noise.unflatten(-1, (4, 3))
        return Decision(self.low + torch.sigmoid(ahead) * (self.high - self.low), {})


class Seeing(StandIn):
    """A policy of two entries: a camera of 8 x 8 bytes and an arm of four numbers."""

    def __init__(self) -> None:
        super().__init__()
        draw = np.random.default_rng(1)
        frames = draw.integers(0, 256, size=(32, 8, 8, 1)).astype(np.uint8)
        self.spec = replace(
            self.spec,
            observation={"camera": Image((8, 8, 1)), "arm": self.spec.vector},
            probe=Probe({"camera": frames, "arm": self.spec.probe.observation[WHOLE]}),
        )

    def forward(self, observation: dict[str, Tensor], task: Tensor | None = None) -> Tensor:
        """Return the stand-in's action for the arm, moved by the brightness."""
        bright = observation["camera"].float().mean(dim=(1, 2, 3)) / 255.0
        return super().forward(observation["arm"] + bright.unsqueeze(-1))
