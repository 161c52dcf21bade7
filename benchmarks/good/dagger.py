"""DAgger against cloning at equal labels: what the way back is worth, and where it is not.

    python benchmarks/good/dagger.py [--seeds 5] [--rooms 3] [--no_document]

Chain (T28): an expert that never errs, so that its demonstrations do not show the way back; a
mistake without it costs the rest of the episode. Corridor: demonstrations from a fixed start
without disturbances, tests with both. Four rooms at 100 episodes, where DAgger was measured to
lose. Each row of a table has the same labels, updates and network; intervals are Student's over
seeds. Takes some minutes of one core, and writes the tables of docs/good.md.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder above

from lightning.pytorch import seed_everything
from results import ROOT, replace_part
from shared import interval, quiet, say, silent_trainer, table

from hindsight_rl import BC, Beta, Collection, Expert, ExpertAction, IteratedDataModule, Network
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.rollout import Rollout, rollout
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.mixing import cost_without_recovery

TEST = 7_000_000  # seed of test episodes
WAVE = 6.0  # how often the right side changes with the number that is shown


class Chain(gymnasium.Env[Any, Any]):
    """A hundred steps with a side to choose, told by the sign of a wave; a mistake leads off.

    Off the path the sides are exchanged, and six right ones in a row lead back. The cost is the
    steps off.
    """

    HORIZON, BACK = 100, 6

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin on the path."""
        super().reset(seed=seed)
        self.off, self.time = 0, 0
        return self._shown(), {}

    def step(self, action: Any) -> Any:
        """Take a side."""
        wrong = int(action) != self.right
        self.off = self.BACK if wrong else max(0, self.off - 1)
        self.time += 1
        return self._shown(), -float(self.off > 0), False, self.time == self.HORIZON, {}

    def _shown(self) -> Any:
        self.code = float(self.np_random.uniform(-1.0, 1.0))
        return np.array([self.code, self.off / self.BACK], np.float32)

    @property
    def right(self) -> int:
        """The side that leads back to the path, or stays on it."""
        return int((np.sin(WAVE * self.code) > 0) != (self.off > 0))


def right_side(observation: Any, task: Any, env: Any) -> Any:
    """Return what a chain calls right."""
    return np.array([env.unwrapped.right])


class Corridor(gymnasium.Env[Any, Any]):
    """Forty steps along a corridor that throws its walker to the walls, at 1 and -1.

    Args:
        disturbed: Begin anywhere in its middle, and be pushed at random.
    """

    def __init__(self, disturbed: bool = False) -> None:
        self.observation_space = spaces.Box(-2.0, 2.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.disturbed = disturbed

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin at the entrance."""
        super().reset(seed=seed)
        self.side = float(self.np_random.uniform(-0.4, 0.4)) if self.disturbed else 0.0
        self.time = 0
        return self._shown(), {}

    def step(self, action: Any) -> Any:
        """Go on, and to a side."""
        push = float(self.np_random.normal(0.0, 0.06)) if self.disturbed else 0.0
        self.side = 1.1 * self.side + 0.15 * float(action[0]) + push
        self.time += 1
        hit, through = abs(self.side) > 1.0, self.time == 40
        info = {"is_success": through and not hit}
        return self._shown(), 1.0, hit, through and not hit, info

    def _shown(self) -> Any:
        return np.array([self.side, self.time / 40], np.float32)


def steer(observation: Any, task: Any, env: Any) -> Any:
    """Return the way back to the middle of a corridor."""
    return np.clip(-6.0 * observation[:, :1], -1.0, 1.0)


def disturbed() -> Corridor:
    """Return the corridor of the tests."""
    return Corridor(disturbed=True)


def fitted(
    env: Any, collection: Collection, updates: int, seed: int, hidden: Any, **options: Any
) -> tuple[BC, IteratedDataModule]:
    """Return a policy that clones what an expert says while it is collected."""
    seed_everything(seed, verbose=False)
    frequencies = options.pop("frequencies", 0)
    data = IteratedDataModule(
        env, [ExpertAction()], collection=collection, batch_size=128, seed=seed, **options
    )
    optimizer = lambda params: torch.optim.Adam(params, lr=1e-3, fused=True)  # noqa: E731
    network = Network(hidden=hidden, frequencies=frequencies)
    learner = BC(data.spec, network=network, optimizer=optimizer, compile="off")
    trainer = silent_trainer(updates)
    trainer.fit(learner, data)
    learner.eval()
    return learner, data


def played(learner: BC, env: Any, seed: int, episodes: int) -> Rollout:
    """Return test episodes."""
    return rollout(learner.player(), env, episodes=episodes, seed=TEST + seed)


def collecting(first: int, each: int, ratio: float, expert: Expert, **more: Any) -> Collection:
    """Return what is collected."""
    return Collection(
        initial_episodes=first,
        episodes_per_round=each,
        updates_per_env_step=ratio,
        sample=False,
        expert=expert,
        **more,
    )


def row(name: str, values: list[float], labels: list[int], digits: int = 1) -> list[str]:
    """Return mean, interval and labels of a method."""
    mean, low, high = interval(values)
    found = f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return [name, found, f"{np.mean(labels):,.0f}"]


def chain(seeds: int) -> str:
    """Return the table of the chain: steps off the path of 100."""
    plans: dict[str, Callable[[], Collection]] = {
        "cloning, 20 demonstrations": lambda: collecting(
            20, 1, 0.5, Expert(right_side, Beta((1.0,)), max_episodes=20)
        ),
        "DAgger, 4 demonstrations and 16 episodes of the policy": lambda: collecting(
            4, 4, 0.5, Expert(right_side, max_episodes=20)
        ),
    }
    rows = []
    for name, plan in plans.items():
        costs, labels, errors = [], [], []
        for seed in range(seeds):
            learner, data = fitted(Chain, plan(), 3_000, seed, (64, 64))
            costs.append(-float(played(learner, Chain, seed, 50).returns.mean()))
            labels.append(int(data.history[-1].queries or 0))
            code = np.linspace(-1, 1, 4001, dtype=np.float32)
            side = learner.act_numpy(np.stack([code, np.zeros_like(code)], 1))
            errors.append(float((side != (np.sin(WAVE * code) > 0)).mean()))
        predicted = [
            float(cost_without_recovery(torch.tensor(e, dtype=torch.float64), Chain.HORIZON))
            for e in errors
        ]
        alone = [e * Chain.HORIZON * Chain.BACK for e in errors]
        more = [
            f"{100 * np.mean(errors):.2f} %",
            f"{np.mean(predicted):.1f}",
            f"{np.mean(alone):.1f}",
        ]
        rows.append([*row(name, costs, labels), *more])
        say(" | ".join(rows[-1]))
    head = ["chain, 100 steps", "steps off [95 %]", "labels", "error on the path"]
    return table([*head, "without a way back", "with one"], rows)


def demonstrations(episodes: int, seed: int) -> Log:
    """Return episodes of the expert in a corridor without disturbances."""
    expert = Expert(steer, Beta((1.0,)))
    collector = Collector(Corridor, seed=seed, expert=expert)
    found = collector.collect(None, 0, episodes)
    number = torch.arange(episodes).repeat_interleave(found.lengths)
    collector.close()
    return Log.from_columns(found.columns | {"episode": number}, collector.info)


def corridor(seeds: int) -> str:
    """Return the table of the corridor: share of test episodes that come through."""
    whole, few = 800, 160
    always = Beta((1.0,))
    plans: dict[str, Callable[[int], tuple[Any, Collection, dict[str, Any]]]] = {
        "cloning, undisturbed demonstrations": lambda seed: (
            Corridor,
            collecting(20, 1, 1.0, Expert(steer, always, max_episodes=20)),
            {},
        ),
        "DAgger: 4 of them, then the policy, disturbed": lambda seed: (
            disturbed,
            collecting(0, 4, 1.0, Expert(steer, max_queries=whole - few, max_episodes=100)),
            {"source": demonstrations(4, seed)},
        ),
        "DART: undisturbed, noise 0.5 on the expert's actions": lambda seed: (
            Corridor,
            collecting(20, 1, 1.0, Expert(steer, always, noise=0.5, max_episodes=20)),
            {},
        ),
        "cloning, demonstrations disturbed as the tests are": lambda seed: (
            disturbed,
            collecting(20, 1, 1.0, Expert(steer, always, max_episodes=20)),
            {},
        ),
    }
    rows = []
    for name, plan in plans.items():
        shares, labels = [], []
        for seed in range(seeds):
            env, collection, options = plan(seed)
            learner, data = fitted(env, collection, 1_200, seed, (32, 32), **options)
            found = played(learner, disturbed, seed, 100).successes
            shares.append(100 * float(np.mean(found)))
            labels.append(int(data.log.column("expert_action").isfinite().sum()))
        rows.append(row(name, shares, labels))
        say(" | ".join(rows[-1]))
    return table(["corridor", "through, % [95 %]", "labels"], rows)


def four_rooms(seeds: int) -> str:
    """Return the table of four rooms at 100 episodes in all: share that reaches the goal."""
    who = "environment"
    plans: dict[str, Collection] = {
        "cloning, 100 demonstrations": collecting(
            100, 1, 0.4, Expert(who, Beta((1.0,)), max_episodes=100)
        ),
        "DAgger, 10 demonstrations and 90 episodes of the policy": collecting(
            10, 10, 0.4, Expert(who, max_episodes=100)
        ),
        "DAgger, beta linear over 10 rounds": collecting(
            10, 10, 0.4, Expert(who, Beta(linear=10), max_episodes=100)
        ),
        "the same, episodes cut after 8 steps within 1": collecting(
            10,
            10,
            0.4,
            Expert(who, Beta(linear=10), max_episodes=100),
            max_stuck=8,
            stuck_radius=1.0,
        ),
    }
    rows = []
    for name, collection in plans.items():
        shares, labels = [], []
        for seed in range(seeds):
            env = "Hindsight/FourRooms-v0"
            learner, data = fitted(env, collection, 3_000, seed, (128, 128), frequencies=4)
            found = played(learner, env, seed, 100).successes
            shares.append(100 * float(np.mean(found)))
            labels.append(int(data.history[-1].queries or 0))
        rows.append(row(name, shares, labels, 0))
        say(" | ".join(rows[-1]))
    return table(["four rooms, 100 episodes", "at the goal, % [95 %]", "labels"], rows)


def main() -> int:
    """Print the tables, and put them into docs/good.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rooms", type=int, default=3, help="seeds of four rooms, 0 for none")
    parser.add_argument("--no_document", action="store_true")
    given = parser.parse_args()
    quiet()
    start = time.perf_counter()
    tables = {}
    if given.seeds:
        tables = {"dagger_chain": chain(given.seeds), "dagger_corridor": corridor(given.seeds)}
    if given.rooms:
        tables["dagger_rooms"] = four_rooms(given.rooms)
    for name, text in tables.items():
        say(text)
        if not given.no_document:
            replace_part(ROOT / "docs" / "good.md", name, text)
    say(f"{time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
