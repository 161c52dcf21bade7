"""A bandit whose arms must be found out within a trial: RL^2 between what is known exactly.

A part of meta.py. One arm of two always pays and the other never, with four pulls: whoever sees
nothing gets 2, and the best that can be made of what was seen is 3.5, for the first pull says all.
No setting was chosen on the seeds that are reported; the rate was on seed 100.
"""

import functools

import torch
from lightning.pytorch import seed_everything
from shared import silent_trainer

from hindsight_rl import IteratedDataModule, RecurrentPPO, TanhNetwork
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.envs.rollout import rollout

ENV, KWARGS = "Hindsight/Bandit-v0", {"trial": 4, "randomise": {"paying": [0, 2]}}
TRIALS, ROUNDS, EPOCHS = 128, 80, 4
TESTS, TEST_SEED = 2_000, 2_000_000
METHODS = ("RL^2", "the best that sees nothing", "the best there is")
COLUMNS = ("reward of four pulls",)


def bandits(first: int, seeds: int, name: str) -> list[dict[str, float]]:
    """Return the mean reward of a trial; of each seed."""
    if name == METHODS[0]:
        return [{COLUMNS[0]: learned(first + seed)} for seed in range(seeds)]
    pulls, arms = 4, 2
    known = pulls / arms if name == METHODS[1] else pulls - sum(range(arms)) / arms
    return [{COLUMNS[0]: known}] * seeds


def learned(seed: int) -> float:
    """Return the mean reward of a trial by a policy that was learned, its likeliest actions."""
    seed_everything(seed, verbose=False)
    collection = Collection(
        initial_episodes=50, episodes_per_round=TRIALS, epochs=EPOCHS, num_envs=64
    )
    data = IteratedDataModule(
        ENV, env_kwargs=KWARGS, collection=collection, batch_size=TRIALS // EPOCHS, seed=seed
    )
    learner = RecurrentPPO(
        data.spec,
        units=64,
        segment=4,
        network=TanhNetwork(hidden=(64,)),
        entropy_weight=0.01,
        optimizer=functools.partial(torch.optim.Adam, lr=2e-3),
        compile="off",
    )
    silent_trainer(ROUNDS * EPOCHS * EPOCHS).fit(learner, data)
    found = rollout(learner.eval().player(), ENV, episodes=TESTS, seed=TEST_SEED, env_kwargs=KWARGS)
    return float(found.returns.mean())
