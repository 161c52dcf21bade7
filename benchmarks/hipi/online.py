"""Figures 5 and 6 of HIPI: SAC that collects its own experience, by the tasks its batches get.

    python benchmarks/hipi/online.py [--domains four_rooms ...] [--seeds 5] [--choose]

Every data step trains the same learner with the same settings for the same number of updates, one
per environment step, and is tested every so often on fresh tasks (greedy actions). Half of the rows
keep the commanded task, as the paper found best. Prints final scores and areas under the curves,
and writes build/hipi/online.json. Finished runs are kept in build/hipi/online/.
"""

import argparse
import functools
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import common
import numpy as np

from hindsight_rl.nets.network import Network


class Domain(NamedTuple):
    """An environment, its family of tasks, and which data steps make sense in it."""

    env: str
    family: str
    data_steps: tuple[str, ...]
    env_kwargs: dict[str, Any]
    frequencies: int
    model: dict[str, Any]
    score: str
    title: str
    settings: dict[str, Any] = {}  # noqa: RUF012  (plain data, never changed)


REACHED = "inverse RL, states reached"
_GOALS = ("inverse RL", REACHED, "future", "final", "random", "none")
_TASKS = ("inverse RL", "random", "none")
_ROOMS = {"discount": 0.98, "value_range": [-50.0, 0.0]}
DOMAINS = {
    "four_rooms": Domain(
        "FourRooms", "goals", _GOALS, {"radius": 1.0}, 3, _ROOMS, "success", "four rooms (Fig. 5)"
    ),
    "four_rooms_sparse": Domain(
        "FourRooms",
        "goals",
        _GOALS,
        {"radius": 0.3},
        3,
        _ROOMS,
        "success",
        "four rooms, radius 0.3 (Fig. 5)",
    ),
    "four_corners": Domain(
        "FourCorners",
        "corners",
        _TASKS,
        {"radius": 1.0},
        3,
        _ROOMS,
        "success",
        "four corners (Fig. 6)",
    ),
    "point_mass": Domain(
        "PointMass",
        "weights",
        _TASKS,
        {},
        0,
        {"discount": 0.97, "value_range": None},
        "return",
        "point mass, linear rewards (Fig. 6)",
    ),
    "four_margins": Domain(
        "FourMargins", "margins", _GOALS, {}, 3, _ROOMS, "success", "goal with margin (Fig. 6)"
    ),
}


def family_of(domain: Domain) -> Any:
    """Return the family of a domain's tasks."""
    from hindsight_rl.envs.four_corners import CORNERS
    from hindsight_rl.envs.four_margins import MARGINS
    from hindsight_rl.envs.point_mass import HIGH, LOW
    from hindsight_rl.envs.robots.reacher import PLACES
    from hindsight_rl.envs.robots.sawyer import MARGINS as ARM_MARGINS
    from hindsight_rl.envs.robots.walker import HIGH as WALK_HIGH
    from hindsight_rl.envs.robots.walker import LOW as WALK_LOW
    from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching
    from hindsight_rl.tasks.linear import LinearTasks

    radius = domain.env_kwargs.get("radius")
    return {
        "goals": lambda: GoalReaching(radius),
        "corners": lambda: DiscreteTasks(GoalReaching(radius), CORNERS.tolist()),
        "weights": lambda: LinearTasks(list(LOW), list(HIGH)),
        "margins": lambda: GoalReaching(MARGINS),
        "arm margins": lambda: GoalReaching(ARM_MARGINS),
        "speeds": lambda: GoalReaching(kind="dense", ends=False, effort=0.05),
        "gaits": lambda: LinearTasks(WALK_LOW, WALK_HIGH),
        "places": lambda: DiscreteTasks(GoalReaching(radius), PLACES.tolist()),
    }[domain.family]()


def relabelers(domain: Domain, data_step: str, settings: dict[str, Any]) -> list[Any]:
    """Return the data step of a run."""
    from hindsight_rl.relabel.goals import FinalGoal, FutureGoal
    from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
    from hindsight_rl.relabel.random_task import RandomTask
    from hindsight_rl.relabel.scoring import Scoring

    family, fraction = family_of(domain), settings["fraction"]
    inverse = functools.partial(
        TransitionInverseRL,
        candidates=settings["candidates"],
        entropy_scale=settings["entropy_scale"],
        scoring=Scoring(**settings.get("scoring", {})),
    )
    kinds = {
        "inverse RL": functools.partial(inverse, propose="log"),
        REACHED: functools.partial(inverse, propose="reached"),
        "final": FinalGoal,
        "future": FutureGoal,
        "random": RandomTask,
    }
    return [kinds[data_step](family, fraction=fraction)] if data_step in kinds else []


def run(domain: Domain, data_step: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the curve of one run: environment steps, and the score on fresh tasks.

    Args:
        domain: Where.
        data_step: Which tasks batches get.
        seed: Seed of weights, episodes and draws.
        settings: The same for all data steps; ``scoring`` holds options of inverse RL's.

    Returns:
        ``env_steps``, ``seconds_at`` (of the processor) and ``scores`` of the evaluations, the
        last as ``final``.
    """
    import torch

    from hindsight_rl.agents.sac import SAC
    from hindsight_rl.datamodules.collection import Collection
    from hindsight_rl.datamodules.iterated import IteratedDataModule
    from hindsight_rl.diagnostics.evaluation import Evaluation

    common.quiet(seed)
    env = f"hindsight_rl.envs:Hindsight/{domain.env}-v0"
    data = IteratedDataModule(
        env,
        relabelers(domain, data_step, settings),
        env_kwargs=domain.env_kwargs,
        batch_size=settings["batch_size"],
        seed=seed,
        collection=Collection(
            initial_episodes=20,
            episodes_per_round=8,
            max_episode_steps=settings["episode_steps"],
        ),
    )
    learner = SAC(
        data.spec,
        network=Network(hidden=settings["hidden"], frequencies=domain.frequencies),
        tau=settings["tau"],
        optimizer=functools.partial(torch.optim.Adam, lr=settings["rate"], fused=True),
        evaluation=Evaluation(
            env=env,
            env_kwargs=domain.env_kwargs,
            every=settings["evaluate_every"],
            episodes=settings.get("episodes", 100),
            max_steps=settings["episode_steps"],
        ),
        compile="update",
        **domain.model,
    )
    curve = common.Curve(data, f"eval/{domain.score}")
    common.silent_trainer(settings["env_steps"], callbacks=[curve.callback()]).fit(learner, data)
    return {
        "env_steps": curve.steps,
        "seconds_at": curve.seconds,
        "scores": curve.scores,
        "final": curve.scores[-1],
    }


SETTINGS: dict[str, Any] = {
    "env_steps": 16_000,
    "evaluate_every": 2_000,
    "episode_steps": None,
    "hidden": [64, 64],
    "batch_size": 128,
    "rate": 1e-3,
    "tau": 0.01,
    "fraction": 0.5,
    "candidates": 32,
    "entropy_scale": 0.0,
}


def job(task: tuple[str, Domain, str, int, dict[str, Any]]) -> dict[str, Any]:
    """Return one run, kept from before where it was made."""
    name, domain, data_step, seed, settings = task
    of = {"domain": name, "env_kwargs": domain.env_kwargs, "model": domain.model}
    asked = {**of, "data_step": data_step, "seed": seed, **settings}
    return common.kept("online", asked, lambda: run(domain, data_step, seed, settings))


def compare(domains: dict[str, Domain], target: str, title: str) -> int:
    """Run every data step in every domain, print the tables, write build/hipi/TARGET.json.

    Args:
        domains: By name.
        target: Name of the report.
        title: Of the command.

    Returns:
        Exit code.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--domains", nargs="+", default=list(domains), choices=list(domains))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="with --choose")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    changes = dict(word.split("=") for word in options.set)
    seeds = common.CHOICE_SEEDS if options.choose else range(options.seeds)
    settings = {
        name: SETTINGS
        | domains[name].settings
        | {key: json.loads(value) for key, value in changes.items()}
        for name in options.domains
    }
    jobs = [
        (name, domains[name], data_step, seed, settings[name])
        for seed in seeds
        for name in options.domains
        for data_step in domains[name].data_steps
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context) as pool:
        found = list(pool.map(job, jobs))
    report: dict[str, Any] = {"seeds": list(seeds), "domains": {}}
    for name in options.domains:
        domain, rows = domains[name], []
        curves: dict[str, Any] = {}
        for data_step in domain.data_steps:
            runs = [
                one
                for one, (at, _, step, *_) in zip(found, jobs, strict=True)
                if (at, step) == (name, data_step)
            ]
            curves[data_step] = {
                key: [one[key] for one in runs] for key in ("env_steps", "seconds_at", "scores")
            }
            last = common.summary([one["final"] for one in runs])
            area = common.summary([float(np.mean(one["scores"])) for one in runs])
            rows.append(
                (data_step, last, area, f"{np.mean([r['seconds_at'][-1] for r in runs]):.0f}")
            )
            curves[data_step] |= {"final": last._asdict(), "area": area._asdict()}
        report["domains"][name] = {
            "title": domain.title,
            "score": domain.score,
            "settings": settings[name],
            "curves": curves,
        }
        common.say(f"\n{domain.title}: {domain.score}, {len(seeds)} seeds\n")
        last_column = f"after {settings[name]['env_steps']:,.0f} steps"
        header = ("tasks of batches", last_column, "mean over the curve", "seconds")
        common.say(common.table(header, rows))
    if not options.choose:
        common.write_json(target, report)
    return 0


if __name__ == "__main__":
    raise SystemExit(compare(DOMAINS, "online", (__doc__ or "").split("\n")[0]))
