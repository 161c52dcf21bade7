"""Whose preferences does an episode serve? One policy for several annotators.

    python benchmarks/hipi/annotators.py [--seeds 5] [--choose]

A point mass is pushed for many tasks, and the log keeps neither tasks nor rewards. Each of four
annotators wants something else (weights of position, velocity and effort, drawn for every seed) and
compares pairs of segments. A reward model is fitted to each one's answers, inverse RL over the four
learned rewards infers whom each episode serves, and one policy that takes the annotator as its task
is cloned. Scores are returns under what annotators truly want. Prints a table, and writes
build/hipi/annotators.json. Finished runs are kept in build/hipi/.
"""

import argparse
import functools
from typing import Any

import common
import numpy as np
import torch
from torch import Tensor
from wandering import Floats, as_log, mass_step

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.reward_model import RewardModel
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.preferences import PreferenceDataModule
from hindsight_rl.envs.point_mass import HIGH, LOW
from hindsight_rl.envs.pursuit import pursue
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.preferences import Preferences
from hindsight_rl.logs.segments import draw_pairs, places
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.learned_features import LearnedFeatures
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import DiscreteTasks
from hindsight_rl.tasks.linear import LinearTasks

PEOPLE, EPISODES, STEPS, LENGTH, TESTS = 4, 400, 100, 25, 50
SETTINGS: dict[str, Any] = {"answers": 200, "reward_updates": 1500, "updates": 3000}
ROWS = ("no task", "random annotator", "no log Z", "learned rewards", "true rewards")


class Wanted:
    """What an annotator truly wants, as a model of rewards.

    Args:
        weights: ``[5]``, of position, velocity and effort.
    """

    spec = None
    takes_task = False

    def __init__(self, weights: Floats) -> None:
        self.weights = weights

    def rewards(self, observation: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the reward of every row, ``[1, N]``."""
        reached = features(observation.numpy(), action.numpy())
        return torch.from_numpy(reached @ self.weights)[None]


def features(state: Floats, force: Floats) -> Floats:
    """Return what steps achieved, ``[N, 5]``: the next state, and the effort."""
    effort = np.square(force).sum(-1, keepdims=True)
    return np.concatenate([mass_step(state, force), effort], -1)


def starts(count: int, generator: np.random.Generator) -> Floats:
    """Return first states ``[n, 4]``, at rest."""
    place = generator.uniform(-1, 1, (count, 2))
    return np.concatenate([place, np.zeros((count, 2))], 1).astype(np.float32)


def pushed(generator: np.random.Generator) -> Log:
    """Return episodes that are pushed for a task of their own each, which the log does not keep."""
    weights = generator.uniform(LOW, HIGH, (EPISODES, 5))
    eagerness, noise = generator.uniform(0.5, 2.0, EPISODES), generator.uniform(0.05, 0.3, EPISODES)
    states, forces = [starts(EPISODES, generator)], []
    for _ in range(STEPS):
        seen = [
            {"observation": state, "desired_goal": task}
            for state, task in zip(states[-1], weights, strict=True)
        ]
        hands = zip(seen, eagerness, noise, strict=True)
        forces.append(np.stack([pursue(one, e, n, generator)[0] for one, e, n in hands]))
        states.append(mass_step(states[-1], forces[-1]))
    places, actions = np.stack(states, 1), np.stack(forces, 1)
    effort = np.square(actions).sum(-1, keepdims=True)
    return as_log(places, actions, np.concatenate([places[:, 1:], effort], -1))


def answers(log: Log, wanted: Wanted, count: int, seed: int) -> Preferences:
    """Return what an annotator says about pairs of segments, without a mistake."""
    rows = draw_pairs(log, LENGTH, count, seed=seed)
    reward = wanted.rewards(log.column("observation"), log.column("action"))[0]
    score = reward[rows[..., None] + torch.arange(LENGTH)].sum(-1)
    label = (score[:, 1] > score[:, 0]).float()
    blank = ("",) * count
    return Preferences(log.hash(), LENGTH, *places(log, rows), label, score, blank, blank)


def fitted_reward(log: Log, wanted: Wanted, seed: int, settings: dict[str, Any]) -> RewardModel:
    """Return a reward model of one annotator's answers."""
    said = answers(log, wanted, settings["answers"], seed)
    data = PreferenceDataModule(log, said, batch_size=64, seed=seed)
    model = RewardModel(data.spec, network=Network(hidden=(64, 64)), optimizer=adam)
    common.silent_trainer(settings["reward_updates"]).fit(model, data)
    return model


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all fits."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def data_step(row: str, learned: list[Any], wanted: list[Any]) -> list[Relabeler]:
    """Return which annotator the steps of the log are given to."""
    if row == "no task":
        return []
    each = np.eye(PEOPLE).tolist()
    weights = LinearTasks([0.0] * PEOPLE, [1.0] * PEOPLE, features="learned_rewards")
    people = DiscreteTasks(weights, each)
    given = LearnedFeatures(wanted if row == "true rewards" else learned)
    if row == "random annotator":
        return [given, RandomTask(people)]
    return [given, InverseRL(people, tasks=each, partition=row != "no log Z")]


def score(learner: BC, wanted: list[Wanted]) -> float:
    """Return the mean return, each annotator's under what that one truly wants."""
    generator, found = np.random.default_rng(2_000_000), []
    for number, one in enumerate(wanted):
        state, total = starts(TESTS, generator), np.zeros(TESTS)
        task = None
        if learner.spec.task is not None:
            task = np.eye(PEOPLE, dtype=np.float32)[[number] * TESTS]
        for _ in range(STEPS):
            force = np.clip(learner.act_numpy(state, task), -1, 1)
            total += features(state, force) @ one.weights
            state = mass_step(state, force)
        found.append(total.mean())
    return float(np.mean(found))


def run(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the score of every row of the table, and how often tasks inferred are the true ones.

    Args:
        seed: Of the log, of what annotators want, of weights and draws.
        settings: Answers of each annotator, and updates.

    Returns:
        ``scores`` by row; ``same``, the share of episodes that the learned rewards give to the
        annotator whom the true rewards give them to.
    """
    common.quiet(seed)
    generator = np.random.default_rng(seed)
    log = pushed(generator)
    wanted = [Wanted(w.astype(np.float32)) for w in generator.uniform(LOW, HIGH, (PEOPLE, 5))]
    learned = [fitted_reward(log, one, seed, settings) for one in wanted]
    scores, likeliest = {}, {}
    for row in ROWS:
        data = OfflineDataModule(log, data_step(row, learned, wanted), batch_size=256, seed=seed)
        network = Network(hidden=(128, 128))
        learner = BC(data.spec, network=network, head="deterministic", optimizer=adam)
        common.silent_trainer(settings["updates"]).fit(learner, data)
        scores[row] = score(learner, wanted)
        for part in data.relabel.relabelers:
            if isinstance(part, InverseRL):
                likeliest[row] = part.posterior.argmax(-1)
    same = (likeliest["learned rewards"] == likeliest["true rewards"]).float().mean()
    return {"scores": scores, "same": float(same)}


def main() -> int:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=len(common.FIVE_SEEDS))
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    options = parser.parse_args()
    seeds = common.CHOICE_SEEDS if options.choose else range(options.seeds)
    found = [
        common.kept("annotators", {"seed": seed} | SETTINGS, functools.partial(run, seed, SETTINGS))
        for seed in seeds
    ]
    rows = {row: common.summary([one["scores"][row] for one in found]) for row in ROWS}
    same = common.summary([one["same"] for one in found])
    common.say(common.table(("tasks of the clone", "return"), rows.items()))
    common.say(f"episodes given to the same annotator as by true rewards: {same}")
    if not options.choose:
        report = {"seeds": list(seeds), "same": same._asdict()}
        report["rows"] = {row: one._asdict() for row, one in rows.items()}
        common.write_json("annotators", report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
