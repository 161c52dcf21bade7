"""HER on FetchReach from scratch: SAC, goals of the future, rewards of the environment itself.

    python benchmarks/hipi/her.py [--seeds 5] [--choose]

Needs gymnasium-robotics (the extra ``mujoco``). Prints success at the last step on fresh goals over
environment steps; writes build/hipi/her.json. Finished runs are kept in build/hipi/her/.
"""

import functools
from typing import Any

import common

from hindsight_rl.nets.network import Network

ENV = "gymnasium_robotics:FetchReach-v4"
ENV_STEPS, EVAL_EVERY = 20_000, 2_000
# Rate, discount, tau and network of rl-baselines3-zoo for FetchReach.
SETTINGS: dict[str, Any] = {
    "env_steps": ENV_STEPS,
    "hidden": [64, 64],
    "rate": 1e-3,
    "discount": 0.95,
    "tau": 0.05,
    "fraction": 0.8,
    "batch_size": 256,
}


def run(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the curve of one run."""
    import torch

    from hindsight_rl.agents.sac import SAC
    from hindsight_rl.datamodules.collection import Collection
    from hindsight_rl.datamodules.iterated import IteratedDataModule
    from hindsight_rl.diagnostics.evaluation import Evaluation
    from hindsight_rl.relabel.goals import FutureGoal
    from hindsight_rl.tasks.environment import EnvGoals

    common.quiet(seed)
    data = IteratedDataModule(
        ENV,
        [FutureGoal(EnvGoals(ENV), fraction=settings["fraction"])],
        batch_size=settings["batch_size"],
        seed=seed,
        collection=Collection(
            initial_episodes=20,
            episodes_per_round=4,
        ),
    )
    learner = SAC(
        data.spec,
        network=Network(hidden=settings["hidden"]),
        discount=settings["discount"],
        tau=settings["tau"],
        optimizer=functools.partial(torch.optim.Adam, lr=settings["rate"], fused=True),
        evaluation=Evaluation(env=ENV, every=EVAL_EVERY, episodes=20),
        compile="update",
    )
    curve = common.Curve(data, "eval/final_success")
    common.silent_trainer(settings["env_steps"], callbacks=[curve.callback()]).fit(learner, data)
    return {"env_steps": curve.steps, "scores": curve.scores, "final": curve.scores[-1]}


if __name__ == "__main__":
    raise SystemExit(common.from_scratch("her", "HER on FetchReach from scratch", SETTINGS, run))
