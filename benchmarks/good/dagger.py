"""DAgger against cloning at equal labels: what the way back is worth, and where it is not.

    python benchmarks/good/dagger.py [--seeds 20] [--rooms 5] [--no_document]

Chain (T28): an expert that never errs, so that its demonstrations do not show the way back; a
mistake without it costs the rest of the episode. Corridor: demonstrations from a fixed start
without disturbances, tests with both. Four rooms at 100 episodes, where DAgger was measured to
lose. Each row of a table has the same labels, updates and network; intervals are Student's over
seeds, and the last rows of a table are the difference of two methods seed by seed: the chain's also
without the first five, which were seen when it was chosen. Finished seeds are kept in build/good as
long as the code is the same. Takes 20 minutes of one core, writes the tables of docs/good.md and
build/dagger.json.
"""

import argparse
import functools
import hashlib
import json
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
from results import replace_part, source_hash
from shared import BUILD, ROOT, interval, quiet, say, silent_trainer, table

from hindsight_rl import BC, Beta, Collection, Expert, ExpertAction, IteratedDataModule, Network
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.rollout import Rollout, rollout
from hindsight_rl.files import write_text
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.mixing import cost_without_recovery

TEST = 7_000_000  # seed of test episodes
SEEN = 5  # seeds that were looked at when the chain was chosen
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


def chain_plans() -> dict[str, Callable[[], Collection]]:
    """Return the methods of the chain by name: the same labels each."""
    return {
        "cloning, 20 demonstrations": lambda: collecting(
            20, 1, 0.5, Expert(right_side, Beta((1.0,)), max_episodes=20)
        ),
        "DAgger, 4 demonstrations and 16 episodes of the policy": lambda: collecting(
            4, 4, 0.5, Expert(right_side, max_episodes=20)
        ),
    }


def chain(name: str, seed: int) -> dict[str, float]:
    """Return the steps off the path of 100, and the share of wrong sides on it."""
    learner, data = fitted(Chain, chain_plans()[name](), 3_000, seed, (64, 64))
    code = np.linspace(-1, 1, 4001, dtype=np.float32)
    side = learner.act_numpy(np.stack([code, np.zeros_like(code)], 1))
    return {
        "score": -float(played(learner, Chain, seed, 50).returns.mean()),
        "labels": int(data.history[-1].queries or 0),
        "error": float((side != (np.sin(WAVE * code) > 0)).mean()),
    }


def demonstrations(episodes: int, seed: int) -> Log:
    """Return episodes of the expert in a corridor without disturbances."""
    expert = Expert(steer, Beta((1.0,)))
    collector = Collector(Corridor, seed=seed, expert=expert)
    found = collector.collect(None, 0, episodes)
    number = torch.arange(episodes).repeat_interleave(found.lengths)
    collector.close()
    return Log.from_columns(found.columns | {"episode": number}, collector.info)


def corridor_plans(seed: int) -> dict[str, Callable[[], tuple[Any, Collection, dict[str, Any]]]]:
    """Return the methods of the corridor by name: its kind, what is collected, and options."""
    whole, few = 800, 160
    always = Beta((1.0,))
    return {
        "cloning, undisturbed demonstrations": lambda: (
            Corridor,
            collecting(20, 1, 1.0, Expert(steer, always, max_episodes=20)),
            {},
        ),
        "DAgger: 4 of them, then the policy, disturbed": lambda: (
            disturbed,
            collecting(0, 4, 1.0, Expert(steer, max_queries=whole - few, max_episodes=100)),
            {"source": demonstrations(4, seed)},
        ),
        "DART: undisturbed, noise 0.5 on the expert's actions": lambda: (
            Corridor,
            collecting(20, 1, 1.0, Expert(steer, always, noise=0.5, max_episodes=20)),
            {},
        ),
        "cloning, demonstrations disturbed as the tests are": lambda: (
            disturbed,
            collecting(20, 1, 1.0, Expert(steer, always, max_episodes=20)),
            {},
        ),
    }


def corridor(name: str, seed: int) -> dict[str, float]:
    """Return the percentage of test episodes that come through."""
    env, collection, options = corridor_plans(seed)[name]()
    learner, data = fitted(env, collection, 1_200, seed, (32, 32), **options)
    found = played(learner, disturbed, seed, 100).successes
    labels = int(data.log.column("expert_action").isfinite().sum())
    return {"score": 100 * float(np.mean(found)), "labels": labels}


def rooms_plans() -> dict[str, Callable[[], Collection]]:
    """Return the methods of four rooms by name: 100 episodes in all."""

    def plan(first: int, beta: Beta | None = None, **more: Any) -> Collection:
        each = 1 if first == 100 else 10
        expert = Expert("environment", beta or Beta(), max_episodes=100)
        return collecting(first, each, 0.4, expert, **more)

    slow = Beta(linear=10)
    return {
        "cloning, 100 demonstrations": lambda: plan(100, Beta((1.0,))),
        "DAgger, 10 demonstrations and 90 episodes of the policy": lambda: plan(10),
        "DAgger, beta linear over 10 rounds": lambda: plan(10, slow),
        "the same, episodes cut after 8 steps within 1": lambda: plan(
            10, slow, max_stuck=8, stuck_radius=1.0
        ),
    }


def four_rooms(name: str, seed: int) -> dict[str, float]:
    """Return the percentage of test episodes that reach the goal."""
    env = "Hindsight/FourRooms-v0"
    learner, data = fitted(env, rooms_plans()[name](), 3_000, seed, (128, 128), frequencies=4)
    found = played(learner, env, seed, 100).successes
    return {"score": 100 * float(np.mean(found)), "labels": int(data.history[-1].queries or 0)}


TABLES: dict[str, tuple[Callable[[str, int], dict[str, float]], Callable[[], Any], list[str]]] = {
    "dagger_chain": (
        chain,
        chain_plans,
        ["chain, 100 steps", "steps off [95 %]", "labels", "error on the path"],
    ),
    "dagger_corridor": (
        corridor,
        functools.partial(corridor_plans, 0),
        ["corridor", "through, % [95 %]", "labels"],
    ),
    "dagger_rooms": (
        four_rooms,
        rooms_plans,
        ["four rooms, 100 episodes", "at the goal, % [95 %]", "labels"],
    ),
}


@functools.cache
def version() -> str:
    """Return a hash of the library and of this script: a change makes every seed run again."""
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return hashlib.sha256((source_hash() + own).encode()).hexdigest()[:12]


def kept(part: str, name: str, seed: int) -> dict[str, float]:
    """Return what a method reaches with a seed, and its seconds; from before where it was run."""
    key = hashlib.sha256(f"{name}{seed}".encode()).hexdigest()[:12]
    path = BUILD / "good" / f"{part}-{version()}" / f"{key}.json"
    if not path.exists():
        start = time.perf_counter()
        found = TABLES[part][0](name, seed)
        write_text(path, json.dumps(found | {"seconds": time.perf_counter() - start}))
    return dict(json.loads(path.read_text()))


def line(part: str, name: str, values: list[float], seconds: float) -> dict[str, Any]:
    """Return a row of build/dagger.json."""
    mean, low, high = interval(values)
    numbers = {"mean": mean, "low": low, "high": high}
    return {"name": f"{part}: {name}"} | numbers | {"seeds": len(values), "seconds": seconds}


def cell(line: dict[str, Any]) -> str:
    """Return mean and interval."""
    return f"{line['mean']:.1f} [{line['low']:.1f}, {line['high']:.1f}]"


def predicted(errors: list[float]) -> list[str]:
    """Return the measured error, and the costs that follow from it without a way back, and with."""
    alone = torch.tensor(errors, dtype=torch.float64)
    lost = float(torch.stack([cost_without_recovery(e, Chain.HORIZON) for e in alone]).mean())
    back = float(alone.mean()) * Chain.HORIZON * Chain.BACK
    return [f"{100 * float(alone.mean()):.2f} %", f"{lost:.1f}", f"{back:.1f}"]


def measured(part: str, seeds: range) -> tuple[str, list[dict[str, Any]]]:
    """Return the table of a part, and its rows: each method, and the first two apart by seed."""
    _, plans, head = TABLES[part]
    rows, lines, scores = [], [], []
    for name in plans():
        found = [kept(part, name, seed) for seed in seeds]
        scores.append([one["score"] for one in found])
        lines.append(line(part, name, scores[-1], sum(one["seconds"] for one in found)))
        rows.append([name, cell(lines[-1]), f"{np.mean([one['labels'] for one in found]):,.0f}"])
        if "error" in found[0]:
            rows[-1] += predicted([one["error"] for one in found])
        say(" | ".join(rows[-1]))
    apart = [two - one for one, two in zip(*scores[:2], strict=True)]
    differences = {"DAgger less cloning, seed by seed": apart}
    if part == "dagger_chain":
        head = [*head, "without a way back", "with one"]
        differences["the same of seeds 5 and above"] = apart[SEEN:]
    for name, values in differences.items():
        if values:
            lines.append(line(part, name, values, 0.0))
            rows.append([name, cell(lines[-1]), *[""] * (len(head) - 2)])
    return table(head, rows), lines


def main() -> int:
    """Print the tables, and put them into docs/good.md and build/dagger.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="of chain and corridor")
    parser.add_argument("--rooms", type=int, default=5, help="seeds of four rooms")
    parser.add_argument("--no_document", action="store_true")
    given = parser.parse_args()
    quiet()
    start, lines = time.perf_counter(), []
    seeds = {"dagger_chain": given.seeds, "dagger_corridor": given.seeds}
    for part, count in (seeds | {"dagger_rooms": given.rooms}).items():
        if not count:
            continue
        text, found = measured(part, range(count))
        lines += found
        say(text)
        if not given.no_document:
            replace_part(ROOT / "docs" / "good.md", part, text)
    write_text(BUILD / "dagger.json", json.dumps(lines, indent=1))
    say(f"{time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
