"""Delay: what an answer that takes four steps to compute does at the fork (``make policies``).

    python benchmarks/policies/delay.py [--seeds 5] [--choose] [--only NAME]

Flows of chunks of 8. The policy is asked every 4 steps, and its answer is used 4 steps later; until
then the last one is executed. An answer that begins anew may take the other side of the disc; one
that continues what is committed does not. Both are one file, with and without its state. Prints
success, and how far apart the actions before and after a change of chunks lie (actions have length
1), and writes build/delay.json.
"""

import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
import worlds
from common import Case
from fork import EPISODES, NET, log
from numpy.typing import NDArray

EXECUTE, DELAY = 4, 4
CHUNKS = {"network": NET, "chunk": EXECUTE + DELAY, "execute": EXECUTE, "steps": 4}


class BeginsAnew:
    """Plays a file that is not told what is committed, and executes it all the same.

    Args:
        policy: The file.
    """

    def __init__(self, policy: Any) -> None:
        self.initial_state, self._step = policy.initial_state, policy.step

    def step(self, observation: Any, task: Any, state: Any, noise: Any) -> tuple[Any, Any]:
        """Return actions and the following state."""
        asked, count = state["chunk.taken"] >= EXECUTE, state["state.committed_count"]
        blind = state | {"state.committed_count": np.where(asked, 0, count)}
        _, after = self._step(observation, task, blind, noise)
        old = asked & (count > 0)
        after["chunk.actions"][old, :DELAY] = state["chunk.actions"][old, EXECUTE:]
        return after["chunk.actions"][np.arange(len(old)), after["chunk.taken"] - 1], after


class Kept(worlds.Fork):
    """Keeps the actions of each episode."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: list[list[NDArray[np.float64]]] = []

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self.actions.append([])
        return super().reset(**options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Keep an action, and take the step."""
        self.actions[-1].append(np.array(action, np.float64))
        return super().step(action)


def jump(actions: list[list[NDArray[np.float64]]], delay: int) -> float:
    """Return the mean distance of the actions before and after a change of chunks.

    Args:
        actions: Of each episode.
        delay: Steps from asking to the first action of an answer.
    """
    first = range(EXECUTE + delay, worlds.FORK_STEPS, EXECUTE)
    found = [np.linalg.norm(done[t] - done[t - 1]) for done in actions for t in first
             if t < len(done)]  # fmt: skip
    return float(np.mean(found))


def cases() -> list[Case]:
    """Return every policy of the table."""
    return [
        Case("no delay", "FlowBC", CHUNKS, updates=4000),
        Case("delay of 4", "FlowBC", CHUNKS | {"committed": DELAY}, updates=4000),
    ]


def work(case: Case, seed: int) -> common.Found:
    """Return what a seed of a policy gave."""
    from hindsight_rl import OnnxPolicy, rollout

    learner = common.fitted(case, log(), seed)
    rows: common.Found = {}
    with tempfile.TemporaryDirectory() as folder:
        facts = common.exported(learner, Path(folder, "policy.onnx"))
        policy = OnnxPolicy(Path(folder, "policy.onnx"))
    delay = case.model.get("committed", 0)
    players = {"": policy}
    if delay:
        players = {", answers begin anew": BeginsAnew(policy), ", answers continue": policy}
    for added, player in players.items():
        env = Kept()
        found = rollout(
            player, lambda env=env: env, episodes=EPISODES, seed=common.TEST_SEED, num_envs=1
        )
        name = case.name + added
        rows[f"{name}: success"] = {"score": float(found.successes.mean())} | facts
        rows[f"{name}: jump"] = {"score": jump(env.actions, delay)} | facts
    return rows


if __name__ == "__main__":
    found = common.over_seeds("delay", work, cases())
    common.report("delay", found, "Fork with a delay: success, and jump between chunks")
