"""What figures 7 and 8 share, on robots or not: a clone, a biased task, the comparison."""

import argparse
import functools
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import common
import numpy as np
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.nets.network import Network
from hindsight_rl.tasks.family import DiscreteTasks, TaskFamily

Act = Callable[..., np.ndarray]


class Biased(DiscreteTasks):
    """Discrete tasks, with a constant added to the reward of the first one.

    Args:
        family: What the tasks mean.
        tasks: The tasks of that family.
        bias: Reward units per step.
    """

    def __init__(self, family: TaskFamily, tasks: Sequence[Sequence[float]], bias: float) -> None:
        super().__init__(family, tasks)
        self.bias = bias

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return the reward of the task that is meant, the first one's with the constant."""
        return super().reward(batch, task, pairwise=pairwise) + self.bias * task[..., 0]


def fitted(
    log: Any,
    relabel: list[Any],
    network: Network,
    updates: int,
    seed: int,
    *,
    blind: bool,
    **learner: Any,
) -> tuple[Act, Any]:
    """Return a clone of demonstrations, and the data module that served them.

    Args:
        log: The demonstrations.
        relabel: Gives them tasks; none keeps the true ones.
        network: Of the clone.
        updates: How many.
        seed: Seed of draws.
        blind: The clone sees no task.
        **learner: Arguments of :class:`BC`.

    Returns:
        The policy, which takes a task in either case.
    """
    from hindsight_rl.agents.bc import BC
    from hindsight_rl.datamodules.offline import OfflineDataModule

    data = OfflineDataModule(log, relabel, seed=seed)
    spec = replace(data.spec, task=None) if blind else data.spec
    clone = BC(spec, network=network, head="deterministic", **learner)
    common.silent_trainer(updates).fit(clone, data)
    return (lambda seen, task: clone.act_numpy(seen)) if blind else clone.act_numpy, data


def first_share(data: Any) -> float:
    """Return how many episodes got the first of the tasks."""
    return float(data.relabel.relabelers[0].posterior.mean(0)[0])


BIASES = (0.0, 1.0, 5.0)
FIGURE_8 = [(labels, bias) for labels in ("inverse RL", "inverse RL without Z") for bias in BIASES]


class Study(NamedTuple):
    """What is compared.

    Attributes:
        domains: By name, each with ``title`` and ``score``.
        labels: What clones of figure 7 know of the tasks.
        biased: Domain of figure 8.
        tasks: What a task of it is called, in the plural.
        clone: ``clone(domain, labels, seed, bias)`` returns ``score``, that of the ``teacher``, and
            in figure 8 the ``share`` of the first task; a function of a module.
        settings: What else the results depend on.
        ready: Makes what all seeds of a domain share, before they begin.
    """

    domains: Mapping[str, Any]
    labels: tuple[str, ...]
    biased: str
    tasks: str
    clone: Callable[[str, str, int, float], dict[str, Any]]
    settings: dict[str, Any]
    ready: Callable[[str], object] | None = None


def of_seed(study: Study, target: str, names: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Return all clones of a seed, kept from before where they were made: they share episodes."""
    jobs = [(name, labels, 0.0) for name in names for labels in study.labels]
    jobs += [(study.biased, labels, bias) for labels, bias in FIGURE_8 if study.biased in names]
    found = []
    for name, labels, bias in dict.fromkeys(jobs):
        asked = {"domain": name, "labels": labels, "seed": seed, "bias": bias}
        make = functools.partial(study.clone, name, labels, seed, bias)
        found.append(asked | common.kept(target, asked | study.settings, make))
    return found


def compare(study: Study, target: str, title: str) -> int:
    """Run everything, print the tables, write build/hipi/TARGET.json.

    Args:
        study: What is compared.
        target: Name of the report.
        title: Of the command.

    Returns:
        Exit code.
    """
    parser = argparse.ArgumentParser(description=title)
    domains = list(study.domains)
    parser.add_argument("--domains", nargs="+", default=domains, choices=domains)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    seeds = list(common.CHOICE_SEEDS if options.choose else range(options.seeds))
    for name in options.domains if study.ready else ():
        study.ready(name)
    context = multiprocessing.get_context("spawn")
    make = functools.partial(of_seed, study, target, options.domains)
    with ProcessPoolExecutor(options.workers, context) as pool:
        found = [one for runs in pool.map(make, seeds) for one in runs]

    def values(key: str = "score", **wanted: Any) -> list[float]:
        return [one[key] for one in found if wanted.items() <= one.items()]

    report: dict[str, Any] = {"seeds": seeds, "domains": {}, "figure_8": []}
    for name in options.domains:
        domain = study.domains[name]
        scores = {label: values(domain=name, labels=label, bias=0.0) for label in study.labels}
        scores["demonstrators"] = values("teacher", domain=name, labels="true")
        report["domains"][name] = {
            "title": domain.title,
            "score": domain.score,
            "scores": {label: _summed(one) for label, one in scores.items()},
        }
        common.say(f"\nFig. 7, {domain.title}: {domain.score}, {len(seeds)} seeds\n")
        rows = [(label, common.summary(one)) for label, one in scores.items()]
        common.say(common.table(("tasks of the clone", domain.score), rows))
    if study.biased in options.domains:
        rows = []
        for labels, bias in FIGURE_8:
            wanted = {"domain": study.biased, "labels": labels, "bias": bias}
            score, share = values(**wanted), values("share", **wanted)
            rows.append((labels, f"{bias:g}", common.summary(score), common.summary(share)))
            report["figure_8"].append(wanted | {"score": _summed(score), "share": _summed(share)})
        common.say(f"\nFig. 8, a constant on the first of {study.tasks}, {len(seeds)} seeds\n")
        header = ("tasks of the clone", "constant", "successes", "rows that got the first task")
        common.say(common.table(header, rows))
    if not options.choose:
        common.write_json(target, report)
    return 0


def _summed(values: list[float]) -> dict[str, Any]:
    return common.summary(values)._asdict() | {"values": values}
