"""GAIL, AIRL and cloning beside those of imitation 1.0.1, on the same rows, in the same run.

    python benchmarks/good/against_imitation.py [--seeds 5] [--no_document]

Four episodes of the experts of inverse_rl.py (of CartPole 25 rows of each). imitation's GAIL and
AIRL are on-policy, with PPO of stable-baselines3 and the settings of its documentation; they get as
many steps of the environment as ours, and then four times as many. One thread, the same 20 test
episodes. Ours are the fits of inverse_rl.py, made here where they are not there yet.
Seconds are those of a core, the test episodes included. Runs where imitation is installed, and says
so where it is not:

    pip install --no-deps --target FOLDER imitation==1.0.1 stable-baselines3 seals
    PYTHONPATH=FOLDER python benchmarks/good/against_imitation.py

Writes the table of docs/good.md and build/against_imitation.json.
"""

import argparse
import importlib.util
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder above

import inverse_rl
from results import replace_part
from shared import BUILD, ROOT, interval, quiet, say, table

from hindsight_rl import Log
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.files import write_text
from hindsight_rl.keys import NEXT_OBSERVATION, TERMINATED

EPISODES, ENVS_AT_ONCE, LONGER = 4, 4, 4
SETTINGS = {"n_steps": 256, "batch_size": 64, "n_epochs": 5, "ent_coef": 0.0, "gamma": 0.95}
SETTINGS |= {"learning_rate": 4e-4}


def rows_of(log: Log) -> Any:
    """Return the expert's rows as imitation takes them."""
    from imitation.data.types import Transitions

    names = {"obs": "observation", "acts": "action", "next_obs": NEXT_OBSERVATION}
    columns = {name: log.column(key).numpy() for name, key in names.items()}
    done = log.column(TERMINATED).numpy()
    return Transitions(**columns, dones=done, infos=np.array([{}] * len(log)))


def tested(policy: Any, env: str) -> float:
    """Return the mean return of the test episodes."""

    def act(observation: Any) -> Any:
        return policy.predict(observation, deterministic=True)[0]

    found = rollout(act, env, episodes=inverse_rl.TESTS, seed=inverse_rl.TEST_SEED)
    return float(found.returns.mean())


def theirs(method: str, env: str, seed: int, steps: int) -> tuple[Any, int]:
    """Return a policy of imitation, and the steps of the environment it took."""
    from imitation.algorithms.adversarial.airl import AIRL
    from imitation.algorithms.adversarial.gail import GAIL
    from imitation.algorithms.bc import BC
    from imitation.rewards.reward_nets import BasicRewardNet, BasicShapedRewardNet
    from imitation.util import logger
    from imitation.util.networks import RunningNorm
    from stable_baselines3.common.vec_env import DummyVecEnv
    from stable_baselines3.ppo import PPO

    rows = rows_of(inverse_rl.shown(env, EPISODES, seed))
    venv = DummyVecEnv([lambda: gymnasium.make(env) for _ in range(ENVS_AT_ONCE)])
    venv.seed(seed)
    space = {"observation_space": venv.observation_space, "action_space": venv.action_space}
    silent = logger.configure(str(BUILD / "good" / "imitation"), [])
    if method == "cloning":
        generator = np.random.default_rng(seed)
        learner = BC(**space, rng=generator, demonstrations=rows, custom_logger=silent)
        learner.train(n_batches=3_000, progress_bar=False)
        return learner.policy, 0
    learner, net = PPO("MlpPolicy", venv, seed=seed, device="cpu", **SETTINGS), BasicRewardNet
    trainer, net = (GAIL, BasicRewardNet) if method == "GAIL" else (AIRL, BasicShapedRewardNet)
    found = trainer(
        demonstrations=rows,
        demo_batch_size=64,
        gen_replay_buffer_capacity=512,
        n_disc_updates_per_round=16,
        venv=venv,
        gen_algo=learner,
        reward_net=net(**space, normalize_input_layer=RunningNorm),
        allow_variable_horizon=True,
        custom_logger=silent,
    )
    found.train(steps)
    return learner, learner.num_timesteps


def kept(method: str, env: str, seed: int, steps: int) -> dict[str, float]:
    """Return what a method of imitation reached, kept from before where it was made."""
    name, taken = f"imitation {env} {method} {steps} {seed}", [0]

    def work() -> float:
        policy, taken[0] = theirs(method, env, seed, steps)
        return tested(policy, env)

    path = inverse_rl.HOME / f"{name} steps.json"
    found = inverse_rl.kept(name, work)
    if not path.exists():
        write_text(path, json.dumps(taken[0]))
    return found | {"steps": json.loads(path.read_text())}


def run(env: str, seed: int) -> dict[str, dict[str, float]]:
    """Return score, seconds and steps of every method of both sides, for one seed."""
    own, found = inverse_rl.imitation(env, seed, (EPISODES,)), {}
    few = inverse_rl.steps_taken(env)
    for method in ("cloning", "GAIL", "AIRL"):
        steps = 0 if method == "cloning" else few
        found[f"{method}, ours"] = own[f"{method}, {EPISODES}"] | {"steps": steps}
        found[f"{method}, imitation"] = kept(method, env, seed, steps)
        if steps:
            longer = kept(method, env, seed, LONGER * steps)
            found[f"{method}, imitation, more steps"] = longer
    return found


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no_document", action="store_true")
    given = parser.parse_args()
    missing = [n for n in ("imitation", "stable_baselines3") if not importlib.util.find_spec(n)]
    if missing:
        say(f"{', '.join(missing)} not installed: nothing is compared (see the head of this file)")
        return 0
    quiet()
    inverse_rl.HOME.mkdir(parents=True, exist_ok=True)
    rows, lines = [], []
    for env in inverse_rl.UPDATES:
        found = [run(env, seed) for seed in range(given.seeds)]
        for name in found[0]:
            each = [one[name] for one in found]
            mean, low, high = interval([one["score"] for one in each])
            seconds = statistics.median(one["seconds"] for one in each)
            line = {"name": f"{env}: {name}", "mean": mean, "low": low, "high": high}
            lines.append(line | {"seeds": len(each), "seconds": seconds})
            steps = f"{statistics.fmean(one['steps'] for one in each):,.0f}"
            spread = f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]"
            rows.append([f"{env}, {name.removesuffix(', more steps')}", spread, steps])
            rows[-1].append(f"{seconds:.0f}")
    text = table(["four episodes", "return [95 %]", "steps", "seconds"], rows)
    say(text)
    if not given.no_document:
        write_text(BUILD / "against_imitation.json", json.dumps(lines, indent=1))
        replace_part(ROOT / "docs" / "good.md", "against_imitation", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
