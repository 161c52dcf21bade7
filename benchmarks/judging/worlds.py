"""Two environments, 20 policies in each from poor to expert, what they are worth, and logs.

A learner is trained on what it collects. One of its checkpoints, of middling quality, records the
logs, with a share of uniform actions, so that the probability of every action is known. The
policies that are judged: other checkpoints of it, policies fitted to what it had collected, and
some of these with disturbed weights. All of them draw their actions (``drawn``); as they are
exported they take the likeliest (``exported``).

Two questions are asked, so that every estimator is judged by what it estimates:

- ``steps``: drawn actions, the first ``horizon`` steps alone; logs of episodes of that length.
- ``all``: exported, without an end: rollouts are so long that discount^steps is below 0.003.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import common
import torch

TRUTHS, ENVS = 1000, 32
# Far from the episodes of the logs, whose seeds are small numbers.
TRUTH_SEED = 2_000_000
HIDDEN = {"hidden": [64, 64]}
Asked = Literal["steps", "all"]


@dataclass(frozen=True)
class Fit:
    """A learner that is fitted offline to what was collected while another was trained.

    Attributes:
        learner: Its name in ``hindsight_rl``.
        at: Updates after which it is judged, rising.
        model: Arguments, plain data.
        best: Share of the best episodes that it is fitted to.
    """

    learner: str
    at: tuple[int, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    best: float = 1.0


@dataclass(frozen=True)
class World:
    """An environment, how policies come to be, and what is asked.

    Attributes:
        env: Gymnasium id.
        discount: Of all values.
        horizon: Steps of the question ``steps``, and of its logs.
        limit: Steps of the rollouts of the question ``all``.
        lengths: Episodes of a log of the question ``steps``; of ``all``, and their steps.
        learner: What is trained on its own episodes.
        model: Its arguments, plain data.
        at: Its updates when it is judged; the largest is the whole training.
        recorder: Updates after which it records the logs.
        explore: Share of uniform actions while it records.
        fits: Learners that are fitted to what it collected.
        disturbed: Updates of the trained learner, and size of the noise on its weights.
        behavior: Where the probabilities of the logged actions come from.
    """

    env: str
    discount: float
    horizon: int
    limit: int
    lengths: tuple[int, int, int]
    learner: str
    model: Mapping[str, Any]
    at: tuple[int, ...]
    recorder: int
    explore: float
    fits: Mapping[str, Fit]
    disturbed: tuple[tuple[int, float], ...]
    behavior: Literal["logged", "fitted"] = "logged"

    def folder(self, name: str) -> Path:
        """Return where the checkpoints of a learner lie."""
        return common.HOME / "policies" / self.env / name


SQUASHED = {"network": HIDDEN, "head": "tanh_gaussian"}
WORLDS = {
    "pendulum": World(
        "Pendulum-v1",
        discount=0.95,
        horizon=20,
        limit=120,
        lengths=(500, 100, 100),
        learner="SAC",
        model={"network": HIDDEN, "discount": 0.98},
        at=(500, 1000, 1500, 2000, 2500, 3000, 4000, 6000),
        recorder=2500,
        explore=0.3,
        fits={
            "BC": Fit("BC", (2000,), SQUASHED),
            "BC of the best tenth": Fit("BC", (300, 2000), SQUASHED, best=0.1),
            "IQL": Fit("IQL", (300, 1000, 4000), SQUASHED),
        },
        disturbed=((6000, 0.1), (6000, 0.2), (6000, 0.4), (3000, 0.2), (3000, 0.4), (2000, 0.3)),
    ),
    "cartpole": World(
        "CartPole-v1",
        discount=0.97,
        horizon=40,
        limit=200,
        lengths=(500, 200, 200),
        learner="DQN",
        model={"network": HIDDEN, "double": True, "temperature": 0.5, "discount": 0.97},
        at=(500, 1000, 1500, 2000, 2500, 3000, 4000, 6000),
        recorder=2500,
        explore=0.2,
        fits={
            "BC": Fit("BC", (2000,), {"network": HIDDEN}),
            "BC of the best tenth": Fit("BC", (300, 2000), {"network": HIDDEN}, best=0.1),
            "IQL": Fit("IQL", (300, 1000, 4000), {"network": HIDDEN}),
        },
        disturbed=((6000, 0.1), (6000, 0.2), (6000, 0.4), (3000, 0.2), (3000, 0.4), (2000, 0.3)),
    ),
    "halfcheetah": World(
        "HalfCheetah-v5",
        discount=0.97,
        horizon=20,
        limit=200,
        lengths=(500, 100, 200),
        learner="SAC",
        model={"network": {"hidden": [256, 256]}},
        at=(5000, 10_000, 20_000, 30_000, 40_000, 60_000),
        recorder=30_000,
        explore=0.1,
        fits={
            "BC": Fit("BC", (4000,), {"network": {"hidden": [256, 256]}, "head": "tanh_gaussian"})
        },
        disturbed=((60_000, 0.1),),
        behavior="fitted",
    ),
}


# ------------------------------------------------------------------ policies


@dataclass(frozen=True)
class Target:
    """A policy that is judged.

    Attributes:
        name: What the tables call it.
        path: Its checkpoint.
        noise: Size of the noise on its weights, in standard deviations of each tensor's.
    """

    name: str
    path: Path
    noise: float = 0.0

    def learner(self) -> Any:
        """Return it."""
        from hindsight_rl import load_learner

        found = load_learner(self.path)
        if self.noise:
            random = torch.Generator().manual_seed(int(1000 * self.noise))
            critic = "critic." if type(found).__name__ == "DQN" else "actor."
            with torch.no_grad():
                for name, weight in found.named_parameters():
                    if name.startswith(critic) and weight.ndim > 1:
                        size = self.noise * float(weight.std())
                        weight += size * torch.randn(weight.shape, generator=random)
        return found


def targets(world: World) -> list[Target]:
    """Return the policies that are judged; they are trained and fitted where they are missing."""
    trained = _trained(world)
    found = [Target(f"{world.learner}, {at}", trained[at]) for at in world.at]
    for name, fit in world.fits.items():
        there = _fitted(world, name, fit)
        found += [Target(f"{name}, {at}", there[at]) for at in fit.at]
    for at, noise in world.disturbed:
        found.append(Target(f"{world.learner}, {at}, noise {noise}", trained[at], noise))
    return found


def _trained(world: World) -> dict[int, Path]:
    """Return the checkpoints of the learner that collects, by updates."""
    folder = world.folder("trained")
    there = _checkpoints(folder, world.at)
    if there is None:
        from hindsight_rl import Collection, IteratedDataModule

        data = IteratedDataModule(
            world.env,
            collection=Collection(
                initial_episodes=5, episodes_per_round=1, num_envs=1, explore=0.05
            ),
            batch_size=128,
            seed=1000,
        )
        _fit(folder, world.learner, world.model, data, world.at)
        data.log.save(folder / "replay")
        there = _checkpoints(folder, world.at)
    if there is None:
        raise RuntimeError(f"{folder}: no checkpoints were written")
    return there


def _fitted(world: World, name: str, fit: Fit) -> dict[int, Path]:
    """Return the checkpoints of a learner that was fitted to the replay, by updates."""
    folder = world.folder(name.replace(" ", "-"))
    there = _checkpoints(folder, fit.at)
    if there is None:
        from hindsight_rl import OfflineDataModule, TopFraction, read_log

        log = read_log(world.folder("trained") / "replay")
        relabel = [TopFraction(fit.best)] if fit.best < 1.0 else []
        data = OfflineDataModule(log, relabel, batch_size=128, seed=1000)
        _fit(folder, fit.learner, fit.model, data, fit.at)
        there = _checkpoints(folder, fit.at)
    if there is None:
        raise RuntimeError(f"{folder}: no checkpoints were written")
    return there


def _fit(folder: Path, name: str, model: Mapping[str, Any], data: Any, at: tuple[int, ...]) -> None:
    """Fit a learner and save it after some of its updates."""
    from lightning.pytorch import Trainer, seed_everything

    import hindsight_rl
    from hindsight_rl.nets.network import Network
    from hindsight_rl.training.checkpoints.callbacks import Checkpoints

    common.quiet()
    common.say(f"{folder}: {max(at)} updates")
    seed_everything(1000, verbose=False)
    arguments = {**model, "network": Network(**model["network"])}
    rate = functools.partial(torch.optim.Adam, lr=1e-3, fused=True)
    learner = getattr(hindsight_rl, name)(data.spec, optimizer=rate, threads=1, **arguments)
    every = functools.reduce(_common_divisor, at)
    Trainer(
        max_steps=max(at),
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        callbacks=[Checkpoints(folder, every=every, keep=-1)],
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(learner, data)


def _common_divisor(one: int, two: int) -> int:
    return one if two == 0 else _common_divisor(two, one % two)


def _checkpoints(folder: Path, at: tuple[int, ...]) -> dict[int, Path] | None:
    """Return checkpoints by their updates, ``None`` where one is missing."""
    found = {int(path.stem.partition("=")[2]): path for path in folder.glob("step=*.ckpt")}
    return found if set(at) <= set(found) else None


# ------------------------------------------------------------------ what they are worth


def truth(world: World, target: Target, asked: Asked) -> dict[str, Any]:
    """Return the value of a policy in rollouts, its standard error, and seconds."""
    steps = world.horizon if asked == "steps" else world.limit
    return common.kept(
        "truth",
        {
            "env": world.env,
            "policy": target.name,
            "trained": list(world.at),
            "model": dict(world.model),
            "steps": steps,
            "discount": world.discount,
            "asked": asked,
            "episodes": TRUTHS,
        },
        lambda: _played(world, target.learner(), steps, drawn=asked == "steps"),
    )


def _played(world: World, learner: Any, steps: int, *, drawn: bool) -> dict[str, Any]:
    returns = torch.tensor(list(_returns(world, learner, steps, drawn)), dtype=torch.float64)
    return {"value": float(returns.mean()), "error": float(returns.std()) / len(returns) ** 0.5}


def _returns(world: World, learner: Any, steps: int, drawn: bool) -> Iterator[float]:
    """Yield the discounted return of every episode."""
    from hindsight_rl.datamodules.sources.environment import Collector

    common.quiet()
    collector = Collector(
        world.env, seed=TRUTH_SEED, num_envs=ENVS, max_episode_steps=steps, explore=0.0
    )
    played = collector.collect(learner.collecting(drawn), 0, TRUTHS, None)
    collector.close()
    for rewards in played.columns["next", "reward"].double().split(played.lengths.tolist()):
        time = torch.arange(len(rewards), dtype=torch.float64)
        yield float((rewards * world.discount**time).sum())


# ------------------------------------------------------------------ logs


def log_of(world: World, asked: Asked, seed: int) -> Any:
    """Return a log with the probabilities of its actions."""
    from hindsight_rl import Log, load_learner
    from hindsight_rl.datamodules.sources.environment import Collector

    common.quiet()
    many, few, steps = world.lengths
    count, most = (many, world.horizon) if asked == "steps" else (few, steps)
    collector = Collector(
        world.env, seed=seed, num_envs=ENVS, max_episode_steps=most, explore=world.explore
    )
    collector.stating = True
    learner = load_learner(_trained(world)[world.recorder])
    played = collector.collect(learner.collecting(True), 0, count, None)
    collector.close()
    episode = torch.arange(count).repeat_interleave(played.lengths)
    columns = {**played.columns, "episode": episode}
    return Log.from_columns(columns, {**collector.info, "source": f"{world.env}, seed {seed}"})


def main() -> int:
    """Make the policies of both environments, and print what they are worth."""
    for name, world in WORLDS.items():
        lines = []
        for target in targets(world):
            found = [truth(world, target, asked) for asked in ("steps", "all")]
            cells = [f"{one['value']:.2f} ({one['error']:.2f})" for one in found]
            lines.append((target.name, *cells))
        header = ("policy", f"drawn, {world.horizon} steps", "exported, all steps")
        common.show(name, common.table(header, lines))
        for asked in ("steps", "all"):
            log = log_of(world, asked, 100)
            common.say(f"log, {asked}: {log.episodes} episodes, {len(log)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
