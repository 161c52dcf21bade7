"""The deadly triad on two small logs, with real learners.

**One state, two actions, one number.** The state never changes, no step earns anything, and
Q(s, a) = theta a for the actions a = 1 and 2, so every true value is 0. The log holds action 1
alone. Its target, discount * max(theta, 2 theta), is twice its value, and the one number that both
actions share follows it.

**A wandering point**, whose log holds one of 18 actions, or continuous ones near 0 alone; actions
change nothing, and a step within distance 1 of the origin earns 1. Networks, Adam, and the callback
Watch.

Used by ``benchmarks/deadly_triad.py``, which writes docs/deadly-triad.md, and by the tests.
"""

import functools
import logging
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from hindsight_rl.agents.dqn import DQN
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.watch import Watch
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network
from hindsight_rl.training.learner import Learner


class Line(nn.Module):
    """A critic with one number: Q(s, a) = theta a; the log numbers the actions 1 and 2 from 0."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))
        self.members = (self.theta,)

    def forward(
        self, observation: Tensor, action: Tensor | None, task: Tensor | None = None
    ) -> Tensor:
        """Return values ``[1, B]``, or ``[1, B, 2]`` of both actions."""
        every = self.theta * torch.tensor([1.0, 2.0]).expand(1, len(observation), 2)
        return every if action is None else every[..., 0] + self.theta * action


class Track(Callback):
    """Keeps a number of the learner after every chunk.

    Args:
        read: Gives it.
    """

    def __init__(self, read: Callable[[Any], float]) -> None:
        super().__init__()
        self.read = read
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Keep it."""
        self.found.append(self.read(pl_module))


def one_state(*actions: int) -> Log:
    """Return a log with one step of each of these actions, 1 or 2, all in the one state."""
    count = len(actions)
    never = torch.zeros(count, dtype=torch.bool)
    columns: dict[Any, Tensor] = {
        "observation": torch.ones(count, 1),
        "action": torch.tensor(actions) - 1,
        "episode": torch.arange(count),
        ("next", "observation"): torch.ones(count, 1),
        ("next", "reward"): torch.zeros(count),
        ("next", "terminated"): never,
        ("next", "truncated"): ~never,
    }
    return Log.from_columns(columns, {"discrete_actions": 2})


def fit(learner: Learner, data: OfflineDataModule, updates: int, *callbacks: Callback) -> list[str]:
    """Fit, and return what Watch says; Lightning's advice is not about logs like these."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        Trainer(
            max_steps=updates,
            log_every_n_steps=10,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
        ).fit(learner, data)
    said = [str(warning.message) for warning in found]
    return [text for text in said if text.startswith("watch/")]


def knows_the_log(learner: Any) -> None:
    """Have the cloned policy of discrete BCQ know that action 2 is never taken."""
    with torch.no_grad():
        learner.behavior.net[-1].bias.copy_(torch.tensor([5.0, -5.0]))


def thetas(
    kind: type[Learner],
    updates: int,
    *,
    rate: float = 1.0,
    actions: tuple[int, ...] = (1,),
    theta: float = 1.0,
    prepare: Any = None,
    **arguments: Any,
) -> list[float]:
    """Return theta before the first and after each update of a learner fitted to the one state.

    Args:
        kind: A learner of discrete actions with a critic.
        updates: Number of updates.
        rate: Step of plain gradient descent.
        actions: What the log holds.
        theta: Its first value.
        prepare: Called with the learner before it is fitted.
        **arguments: Of the learner.

    Returns:
        ``updates + 1`` numbers.
    """
    data = OfflineDataModule(one_state(*actions), batch_size=len(actions), updates_per_step=1)
    learner = kind(
        data.spec,
        optimizer=functools.partial(torch.optim.SGD, lr=rate),
        compile="off",
        **{"network": Network(hidden=()), "huber": None, "target_every": 1, "tau": 1.0} | arguments,
    )
    learner.critic, learner.target_critic = Line(theta), Line(theta).requires_grad_(False)
    if prepare is not None:
        prepare(learner)
    track = Track(lambda learner: learner.critic.theta.item())
    fit(learner, data, updates, track)
    return [theta, *track.found]


def fitted_thetas(*actions: int, fits: int, discount: float) -> list[float]:
    """Return theta before the first and after each fit of fitted Q iteration on the one state.

    A fit minimises the loss of DQN over all rows while its target rests; it is quadratic in theta,
    so that one step of Newton's method ends it.

    Args:
        *actions: What the log holds.
        fits: Number of fits.
        discount: In [0, 1].

    Returns:
        ``fits + 1`` numbers.
    """
    data = OfflineDataModule(one_state(*actions))
    learner = DQN(data.spec, network=Network(hidden=()), huber=None, discount=discount)
    learner.critic, learner.target_critic = Line(1.0), Line(1.0).requires_grad_(False)
    (batch,), theta, found = next(iter(data.predict_dataloader())), learner.critic.theta, [1.0]
    for _ in range(fits):
        loss = learner.losses(batch).terms["critic"]
        (slope,) = torch.autograd.grad(loss, theta, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, theta)
        with torch.no_grad():
            theta -= slope / curvature
            learner.target_critic.theta.copy_(theta)
        found.append(theta.item())
    return found


# --- a wandering point ----------------------------------------------------------------------------


class Watched(NamedTuple):
    """What Watch saw of a fit."""

    q: list[float]
    """Largest |Q| of each ten updates, reward units."""
    bound: float
    """What no return of the log can exceed, reward units."""
    said: list[str]
    """Its warnings."""


def narrow_log(discrete: bool, episodes: int = 20, steps: int = 25) -> Log:
    """Return a log of a wandering point that shows few of the actions there are."""
    generator = torch.Generator().manual_seed(0)
    place = torch.randn(episodes, steps + 1, 3, generator=generator)
    for step in range(steps):
        place[:, step + 1] = 0.9 * place[:, step] + 0.4 * place[:, step + 1]
    rows = episodes * steps
    never = torch.zeros(rows, dtype=torch.bool)
    columns: dict[Any, Tensor] = {
        "observation": place[:, :-1].flatten(0, 1),
        "action": torch.zeros(rows, dtype=torch.int64)
        if discrete
        else (0.1 * torch.randn(rows, 2, generator=generator)).clamp(-1, 1),
        "episode": torch.arange(rows) // steps,
        ("next", "observation"): place[:, 1:].flatten(0, 1),
        ("next", "reward"): (place[:, 1:].norm(dim=-1) < 1).float().flatten(),
        ("next", "terminated"): never,
        ("next", "truncated"): torch.arange(rows) % steps == steps - 1,
    }
    bounds = {"low": [-1.0, -1.0], "high": [1.0, 1.0]}
    return Log.from_columns(columns, {"discrete_actions": 18} if discrete else {"action": bounds})


def watched(kind: type[Learner], updates: int, *, rate: float, **arguments: Any) -> Watched:
    """Return what Watch saw of a learner fitted to the wandering point.

    Args:
        kind: The learner.
        updates: Number of updates, a multiple of 10.
        rate: Adam's.
        **arguments: Of the learner.

    Returns:
        Values, bound and warnings.
    """
    log = narrow_log("continuous" not in kind.actions)
    data = OfflineDataModule(log, batch_size=64, updates_per_step=10)
    optimizer = functools.partial(torch.optim.Adam, lr=rate)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = kind(data.spec, optimizer=optimizer, compile="off", **arguments)
    track = Track(lambda learner: learner.latest["watch/critic/q_max"])
    said = fit(learner, data, updates, Watch(), track)
    return Watched(track.found, learner.latest["watch/critic/largest_return"], said)


# Adam's rate and the learner's arguments by which each is fitted to the wandering point. Networks
# and discounts of a kind are the same; a cloned policy must know the log before values have grown.
DISCRETE: dict[str, Any] = {"rate": 1e-3, "network": Network(hidden=(256, 4)), "discount": 0.9}
DISCRETE |= {"tau": 1.0, "target_every": 1}
CONTINUOUS: dict[str, Any] = {"rate": 3e-3, "discount": 0.95, "tau": 1.0}
CONTINUOUS |= {"network": Network(hidden=(64, 64))}
CLONED_FIRST = {"learning_rates": {"behavior": 3e-2}}
