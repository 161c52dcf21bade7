"""Figure 4 of HIPI: tabular Q-learning in the crossing world, by the labels it is given.

    python benchmarks/hipi/fig4.py [--seeds 10]

Two trajectories, A to B and C to D, share only the cell X. Under the labels of their final states
each start is connected with one goal; under inverse RL, by the table's own soft values, the way to
X belongs to both. Prints the share of seeds whose greedy policy gets from each start to each goal,
and writes build/hipi/fig4.json.
"""

import argparse
from typing import Any

import common
import gymnasium
import numpy as np
import torch

from hindsight_rl.agents.q_learning import QLearning
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.crossing import CELLS, GOALS, STARTS, TRAJECTORIES
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.goals import FinalGoal
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import GoalReaching

UPDATES, ROWS, UNREACHABLE = 1000, 8, -20.0
CELLS_OF_GOALS = [[float(number) for number in CELLS[goal]] for goal in GOALS]
ENV = "hindsight_rl.envs:Hindsight/Crossing-v0"


def data_steps() -> dict[str, Relabeler]:
    """Return what is compared."""
    family = GoalReaching(radius=0.5)
    return {
        "final state": FinalGoal(family),
        "inverse RL": TransitionInverseRL(family, tasks=CELLS_OF_GOALS, entropy_scale=0.0),
    }


def log_of_trajectories() -> Log:
    """Return the two trajectories as the environment plays them, without task and reward."""
    columns: dict[Any, list[Any]] = {}
    env = gymnasium.make(ENV)
    for episode, ((start, goal), actions) in enumerate(TRAJECTORIES.items()):
        seen, _ = env.reset(seed=0, options={"start": start, "goal": goal})
        for action in actions:
            following, _, terminated, truncated, _ = env.step(action)
            row = {
                "observation": seen["observation"],
                "action": action,
                "episode": episode,
                ("next", "observation"): following["observation"],
                ("next", "achieved_goal"): following["achieved_goal"],
                ("next", "reward"): np.float32(0),
                ("next", "terminated"): terminated,
                ("next", "truncated"): truncated,
            }
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
            seen = following
    found = {key: torch.as_tensor(np.array(values)) for key, values in columns.items()}
    return Log.from_columns(found, {"discrete_actions": 3})


def fitted(relabel: Relabeler, seed: int) -> QLearning:
    """Return a table after ``UPDATES`` updates; each row of an update moves its entry half way."""
    common.quiet(seed)
    data = OfflineDataModule(
        log_of_trajectories(), [relabel], batch_size=ROWS, updates_per_step=10, seed=seed
    )
    learner = QLearning(
        data.spec,
        tasks=CELLS_OF_GOALS,
        initial_value=UNREACHABLE,
        discount=1.0,
        optimizer=lambda params: torch.optim.SGD(params, lr=ROWS / 2),
    )
    common.silent_trainer(UPDATES).fit(learner, data)
    return learner


def successes(learner: QLearning) -> np.ndarray:
    """Return whether the greedy policy gets from each start (rows) to each goal, ``[2, 2]``."""
    env = gymnasium.make(ENV)
    arrived = np.zeros((2, 2))
    for i, start in enumerate(STARTS):
        for j, goal in enumerate(GOALS):
            seen, _ = env.reset(seed=0, options={"start": start, "goal": goal})
            over = False
            while not over:
                answer = learner.act_numpy(seen["observation"][None], seen["desired_goal"][None])
                seen, _, terminated, truncated, _ = env.step(int(answer[0]))
                over = terminated or truncated
                arrived[i, j] = terminated
    return arrived


def main() -> None:
    """Fit both data steps with every seed and print the two matrices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    report: dict[str, Any] = {"seeds": len(seeds), "updates": UPDATES}
    for name in data_steps():
        tables = [fitted(data_steps()[name], seed) for seed in seeds]
        share = np.mean([successes(learner) for learner in tables], axis=0)
        first = tables[0].critic.value.amax(-1).tolist()
        values = {cell: first[state] for state, cell in enumerate(CELLS)}
        report[name] = {"success": share.tolist(), "values": values}
        rows = [
            [f"from {s}", *(f"{v:.2f}" for v in row)] for s, row in zip(STARTS, share, strict=True)
        ]
        common.say(f"\n{name}\n{common.table(['', *(f'to {goal}' for goal in GOALS)], rows)}")
    common.say(f"\n{common.write_json('fig4', report)}")


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
