"""An expert's episodes without rewards: cloning them, GAIL and AIRL, and rewards to keep.

    python benchmarks/good/inverse_rl.py [--seeds 5] [--parts pendulum kept cartpole]

Scripted experts show 1, 4 and 16 episodes of Pendulum and of CartPole, here 25 random rows of each
(as in Ho and Ermon 2016: whole episodes are cloned perfectly). GAIL and AIRL see rows of the expert
and episodes of their own, cloning only the former. The same 20 test episodes for all.

Then rewards are kept: GAIL and AIRL are fitted on Pendulum, and the reward of each is what SAC gets
on a pendulum of twice the mass; beside it the true reward there, and the policies as they are.
Finished fits are kept in build/good/inverse_rl; writes the tables of docs/good.md and
build/inverse_rl.json. Settings were chosen with --choose, on a seed that is not reported.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder above

from lightning.pytorch import seed_everything
from results import replace_part
from shared import BUILD, CHOICE_SEEDS, ROOT, interval, quiet, say, silent_trainer, table

from hindsight_rl import (
    BC,
    SAC,
    Collection,
    Discriminator,
    DiscriminatorReward,
    IteratedDataModule,
    LearnedReward,
    Log,
    Network,
    OfflineDataModule,
    load_learner,
    read_log,
)
from hindsight_rl.cli.main import main as hindsight
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.files import write_text
from hindsight_rl.keys import EPISODE, EPISODE_END, REWARD, STEP, TERMINATED, TRUNCATED

HOME = BUILD / "good" / "inverse_rl"
TESTS, TEST_SEED, EPISODES, SHOWN_ROWS = 20, 2_000_000, (1, 4, 16), 25
ENVS = {"pendulum": "Pendulum-v1", "cartpole": "CartPole-v1"}
UPDATES = {"Pendulum-v1": 5_000, "CartPole-v1": 3_000}
COLLECTION = {
    "Pendulum-v1": Collection(4, 4, num_envs=4, updates_per_env_step=0.5),
    "CartPole-v1": Collection(6, 2, num_envs=2),
}
METHODS = {
    "GAIL": Discriminator(every=2),
    "AIRL": Discriminator(reads="state", shaped=True, every=2),
}
# Where staying up is the task, a reward that may be below 0 pays for falling: AIRL's did.
SIGN = {("AIRL", "CartPole-v1"): "survive"}
MIX = {"log": 0.25, "collected": 0.75}
SMALL = Network(hidden=(64, 64))
MASS = 2.0  # of the other pendulum; 1 kg where rewards are learned


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all fits."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def heavy() -> gymnasium.Env[Any, Any]:
    """Return a pendulum of another mass."""
    env = gymnasium.make("Pendulum-v1")
    setattr(env.unwrapped, "m", MASS)  # noqa: B010
    return env


def expert(env: str, seed: int) -> Log:
    """Return 16 episodes of an expert of a seed."""
    folder = HOME / f"{env}-{seed}"
    words = ["collect", "--env", env, "--good", "1", "--episodes", str(EPISODES[-1])]
    if not folder.exists() and hindsight([*words, "--seed", str(seed), "--output", str(folder)]):
        raise SystemExit(1)
    return read_log(folder)


def shown(env: str, episodes: int, seed: int) -> Log:
    """Return rows of the first episodes of the expert, without rewards."""
    log = expert(env, seed)
    kept = [key for key in log.keys() if key not in (STEP, EPISODE_END)]
    rows = torch.nonzero(log.column(EPISODE) < episodes).squeeze(1)
    if env == "CartPole-v1":
        generator = torch.Generator().manual_seed(seed)
        few = torch.randperm(len(rows), generator=generator)[: SHOWN_ROWS * episodes]
        rows = rows[few.sort().values]
    columns: dict[Any, torch.Tensor] = {key: log.column(key)[rows] for key in kept}
    columns[REWARD] = torch.zeros(len(rows))
    if env == "CartPole-v1":  # each row is an episode of its own
        columns |= {EPISODE: torch.arange(len(rows)), TRUNCATED: ~columns[TERMINATED]}
    return Log.from_columns(columns, log.info)


def score(learner: Any, env: Any) -> float:
    """Return the mean return of the test episodes."""
    found = rollout(learner.eval().player(), env, episodes=TESTS, seed=TEST_SEED)
    return float(found.returns.mean())


def cloned(env: str, episodes: int, seed: int) -> BC:
    """Return a clone."""
    seed_everything(seed, verbose=False)
    data = OfflineDataModule(shown(env, episodes, seed), batch_size=128, seed=seed)
    learner = BC(data.spec, network=SMALL, optimizer=adam)
    silent_trainer(3_000).fit(learner, data)
    return learner


def imitated(method: str, env: str, episodes: int, seed: int) -> SAC:
    """Return a policy that GAIL or AIRL found; its checkpoint holds the discriminator."""
    seed_everything(seed, verbose=False)
    form: Any = SIGN.get((method, env), "f")
    relabel = DiscriminatorReward(METHODS[method], reward=form, newest=100_000, seed=seed)
    data = IteratedDataModule(
        env,
        [relabel],
        source=shown(env, episodes, seed),
        collection=COLLECTION[env],
        mix=MIX,
        batch_size=128,
        seed=seed,
    )
    learner = SAC(data.spec, network=SMALL, optimizer=adam)
    trainer = silent_trainer(UPDATES[env])
    trainer.fit(learner, data)
    trainer.save_checkpoint(checkpoint(method, env, episodes, seed))
    return learner


def steps_taken(env: str) -> int:
    """Return about how many steps of the environment a fit takes, the first round included."""
    first = COLLECTION[env].initial_episodes * (200 if env == ENVS["pendulum"] else 22)
    return first + round(UPDATES[env] / COLLECTION[env].updates_per_env_step)


def checkpoint(method: str, env: str, episodes: int, seed: int) -> Path:
    """Return where :func:`imitated` saves a fit."""
    return HOME / f"{env}-{method}-{episodes}-{seed}.ckpt"


def rewarded(relabel: list[Any], seed: int) -> SAC:
    """Return what SAC finds on the heavy pendulum with the reward that a relabeler writes."""
    seed_everything(seed, verbose=False)
    data = IteratedDataModule(
        heavy, relabel, collection=COLLECTION["Pendulum-v1"], batch_size=128, seed=seed
    )
    learner = SAC(data.spec, network=SMALL, optimizer=adam)
    silent_trainer(UPDATES["Pendulum-v1"]).fit(learner, data)
    return learner


def kept(name: str, work: Callable[[], float]) -> dict[str, float]:
    """Return score and seconds (of a core) of a fit, kept from before where it was made."""
    path = HOME / f"{name}.json"
    if not path.exists():
        start = time.process_time()
        found = {"score": work(), "seconds": time.process_time() - start}
        write_text(path, json.dumps(found))
        say(f"{name}: {found['score']:.0f}, {found['seconds']:.0f} s")
    return dict(json.loads(path.read_text()))


# --- fits -----------------------------------------------------------------------------------------


def imitation(
    env: str, seed: int, counts: tuple[int, ...] = EPISODES
) -> dict[str, dict[str, float]]:
    """Return what each method reaches from each number of episodes, for one seed."""
    log = expert(env, seed)
    found = {"expert": {"score": float(log.column(REWARD).sum()) / log.episodes, "seconds": 0.0}}
    random = functools.partial(random_score, env, seed)
    found["random actions"] = kept(f"{env} random {seed}", random)
    for episodes in counts:
        jobs: dict[str, Callable[[], Any]] = {
            "cloning": functools.partial(cloned, env, episodes, seed)
        }
        for method in METHODS:
            jobs[method] = functools.partial(imitated, method, env, episodes, seed)
        for method, job in jobs.items():
            name = f"{method}, {episodes}"
            found[name] = kept(f"{env} {name} {seed}", lambda j=job: score(j(), env))
    return found


def random_score(env: str, seed: int) -> float:
    """Return the mean return of random actions."""
    found = IteratedDataModule(env, collection=Collection(TESTS), seed=seed).log
    return float(found.column(REWARD).sum()) / found.episodes


def carried(seed: int) -> dict[str, dict[str, float]]:
    """Return what rewards and policies of 16 episodes are worth on another pendulum."""
    env, most, found = ENVS["pendulum"], EPISODES[-1], {}
    fits = {method: checkpoint(method, env, most, seed) for method in METHODS}
    for method, path in fits.items():
        if not path.exists():
            imitated(method, env, most, seed)
    jobs: dict[str, Callable[[], float]] = {
        "cloning, its policy": lambda: score(cloned(env, most, seed), heavy),
        "GAIL, its policy": lambda: score(load_learner(fits["GAIL"]), heavy),
        "AIRL, its policy": lambda: score(load_learner(fits["AIRL"]), heavy),
        "GAIL, its reward": lambda: score(
            rewarded([LearnedReward(str(fits["GAIL"]))], seed), heavy
        ),
        "AIRL, its reward": lambda: score(
            rewarded([LearnedReward(str(fits["AIRL"]))], seed), heavy
        ),
        "the true reward": lambda: score(rewarded([], seed), heavy),
    }
    for name, job in jobs.items():
        found[name] = kept(f"heavy {name} {seed}", job)
    for method, path in fits.items():
        found[f"{method}, its reward"]["correlation"] = agreement(path, seed)
    return found


def agreement(path: Path, seed: int) -> float:
    """Return the correlation of a kept reward with the true one where random actions lead."""
    log = IteratedDataModule(heavy, collection=Collection(TESTS), seed=seed).log
    given = LearnedReward(str(path)).given(log)
    return float(torch.corrcoef(torch.stack([given, log.column(REWARD)]))[0, 1])


# --- tables ---------------------------------------------------------------------------------------


def line_of(name: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return a line of build/inverse_rl.json."""
    mean, low, high = interval([run["score"] for run in runs])
    seconds = sum(run["seconds"] for run in runs)
    spread = {"mean": mean, "low": low, "high": high}
    return {"name": name, **spread, "seeds": len(runs), "seconds": seconds}


def words(line: dict[str, Any]) -> str:
    """Return mean and interval of a line."""
    return f"{line['mean']:,.0f} [{line['low']:,.0f}, {line['high']:,.0f}]"


def imitation_table(env: str, lines: dict[str, dict[str, Any]]) -> str:
    """Return methods by episodes."""
    rows = []
    for method in ("cloning", *METHODS):
        rows.append([method, *(words(lines[f"{method}, {episodes}"]) for episodes in EPISODES)])
    rows += [[who, words(lines[who]), "", ""] for who in ("expert", "random actions")]
    return table([f"{env}, return [95 %]", *(f"{count} shown" for count in EPISODES)], rows)


def kept_table(found: list[dict[str, dict[str, float]]], lines: dict[str, dict[str, Any]]) -> str:
    """Return what is worth how much on the other pendulum."""
    rows = []
    for name, line in lines.items():
        likeness = [one[name]["correlation"] for one in found if "correlation" in one[name]]
        mean, low, high = interval(likeness) if likeness else (0.0, 0.0, 0.0)
        like = f"{mean:.2f} [{low:.2f}, {high:.2f}]" if likeness else ""
        rows.append([name, words(line), like])
    head = [f"pendulum of {MASS:g} kg instead of 1", "return [95 %]"]
    return table([*head, "correlation with the true reward"], rows)


def main() -> int:
    """Print the tables, and put them into docs/good.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=["pendulum", "kept", "cartpole"])
    parser.add_argument("--choose", action="store_true", help="a seed that is not reported")
    parser.add_argument("--no_document", action="store_true")
    given = parser.parse_args()
    quiet()
    HOME.mkdir(parents=True, exist_ok=True)
    seeds = CHOICE_SEEDS[:1] if given.choose else range(given.seeds)
    path = BUILD / "inverse_rl.json"
    every = json.loads(path.read_text()) if path.exists() else []
    for part in given.parts:
        work = functools.partial(imitation, ENVS[part]) if part in ENVS else carried
        found = [work(seed) for seed in seeds]
        lines = {name: line_of(name, [one[name] for one in found]) for name in found[0]}
        every = [line for line in every if not line["name"].startswith(f"{part}: ")]
        every += [line | {"name": f"{part}: {name}"} for name, line in lines.items()]
        if part in ENVS:
            text = imitation_table(ENVS[part], lines)
        else:
            text = kept_table(found, lines)
        say(text)
        if not (given.choose or given.no_document):
            write_text(path, json.dumps(every, indent=1))
            replace_part(ROOT / "docs" / "good.md", f"inverse_rl_{part}", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
