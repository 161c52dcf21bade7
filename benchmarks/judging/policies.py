"""Twenty policies from poor to expert, judged by a log and tried out (``make judging``).

    python benchmarks/judging/policies.py [--only pendulum] [--seeds 3] [--choose]

Pendulum-v1 and CartPole-v1, policies and logs of our own, see worlds.py. Every policy plays 1,000
episodes; a log of another policy says what it is worth by every estimator. Two questions: drawn
actions for a number of steps, where probabilities help (importance sampling, doubly robust), and
exported policies without an end (fitted Q evaluation, linear values and ratios). HalfCheetah-v5 is
asked the same of fewer policies, with the probabilities of a cloned behaviour; it needs MuJoCo and
two hours, so that it has to be named: ``--only halfcheetah``.

Printed of every estimator, means over the seeds of the log: Spearman's rank correlation with the
truth; what the policy with the highest lower end loses against the best, as a share of best to
worst; the root mean squared error, in rewards, and the median of its size; how many 95 % intervals
hold the truth. The same of the policies whose row carries no warning, and how many those are.
Beside them a row that gives every policy the return of the log. Writes build/judging/policies.json.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import common
import worlds
from worlds import Asked, Target, World

# Fewer updates and smaller networks than the command's: a judgement of all of them takes minutes.
SHORT: dict[Asked, dict[str, Any]] = {
    "steps": {"updates": 1000, "hidden": [64, 64], "members": 5},
    "all": {"updates": 2000, "hidden": [64, 64], "members": 5},
}
# Short fits are far from their end there.
LONG: dict[Asked, dict[str, Any]] = {
    "steps": {"updates": 3000, "hidden": [128, 128], "members": 5},
    "all": {"updates": 6000, "hidden": [128, 128], "members": 5},
}
FITTING = {"pendulum": SHORT, "cartpole": SHORT, "halfcheetah": LONG}
SAMPLES = 2
METHODS: dict[Asked, tuple[str, ...]] = {
    "steps": ("fqe", "is", "pdis", "wis", "cwpdis", "dr", "wdr", "magic"),
    "all": ("fqe", "lstd", "dualdice"),
}
LOG = "return of the log"
COVERED = ((0.8, 1.01), (0.5, 0.8), (-0.01, 0.5))


def judged(name: str, world: World, asked: Asked, seed: int) -> dict[str, Any]:
    """Return what a log says of all policies: by name and estimator ``[value, low, high, n]``.

    A row is warned of if its own estimator says not to believe it, or if there is no value.
    """
    settings = {
        "world": name,
        "asked": asked,
        "seed": seed,
        "fitting": FITTING[name][asked],
        "samples": SAMPLES,
        "policies": [target.name for target in worlds.targets(world)],
        "log": [world.horizon, world.discount, *world.lengths, world.recorder, world.explore],
    }
    return common.kept("policies", settings, lambda: _judged(name, world, asked, seed))


def _judged(name: str, world: World, asked: Asked, seed: int) -> dict[str, Any]:
    from hindsight_rl.diagnostics.ope.judge import judge
    from hindsight_rl.diagnostics.ope.question import Question

    common.quiet()
    asked_of = worlds.targets(world)
    question = Question(
        discount=world.discount,
        horizon=world.horizon if asked == "steps" else None,
        behavior=world.behavior,
        methods=METHODS[asked],
        by="fqe",
        drawn=asked == "steps",
        samples=SAMPLES,
        check=False,
        fitting=common.fitting(FITTING[name][asked], seed),
    )
    found = judge(
        [target.learner() for target in asked_of],
        worlds.log_of(world, asked, seed),
        question,
        names=[target.name for target in asked_of],
        say=common.say,
    )
    policies = {
        one.name: {
            "covered": one.covered,
            "estimates": {
                row.method: {
                    "value": row.value,
                    "low": row.interval.low,
                    "high": row.interval.high,
                    "warned": bool(row.warnings) or not math.isfinite(row.value),
                    "effective": row.effective,
                }
                for row in one.estimates
            },
        }
        for one in found.policies
    }
    return {"policies": policies, "logged": found.logged, "behavior": found.behavior}


def truths(world: World, asked: Asked, chosen: Sequence[Target]) -> dict[str, float]:
    """Return the true values by name."""
    return {one.name: worlds.truth(world, one, asked)["value"] for one in chosen}


def of_log(said: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the row that knows nothing of a policy: the return of the log for all."""
    one = {"value": said["logged"], "low": math.nan, "high": math.nan, "warned": False}
    return {name: one for name in said["policies"]}


def of_method(said: dict[str, Any], method: str) -> dict[str, dict[str, Any]]:
    """Return what an estimator says, by policy; those that it says nothing of are missing.

    Weights that are all 0 say nothing, as the command has it.
    """
    rows = {n: one["estimates"].get(method) for n, one in said["policies"].items()}
    return {
        name: row
        for name, row in rows.items()
        if row is not None and math.isfinite(row["value"]) and row["effective"] != 0.0
    }


def summary(
    name: str,
    by_seed: Sequence[dict[str, dict[str, Any]]],
    true: dict[str, float],
    seeds: Sequence[int],
    *,
    ranks_all: bool = True,
) -> dict[str, Any]:
    """Return the row of an estimator: means over the seeds of the log.

    Only where it ranks all policies is there a rank correlation, and a regret.
    """
    ranks, regrets, pairs, believed = [], [], [], []
    for said in by_seed:
        names = list(said)
        values = [true[each] for each in names]
        if names and ranks_all:
            ranks.append(common.rank_correlation([said[n]["value"] for n in names], values))
            chosen = max(names, key=lambda n: _finite(said[n]["low"]))
            regrets.append(common.regret(list(true).index(chosen), list(true.values())))
        pairs += [(said[n], true[n]) for n in names]
        believed += [(said[n], true[n]) for n in names if not said[n]["warned"]]
    row: dict[str, Any] = {"name": name, "seeds": list(seeds), "policies": len(true)}
    if not pairs:
        return row
    row |= _error(pairs) | {"answered": len(pairs) / len(by_seed)}
    if ranks:
        row |= {"rank": _mean(ranks), "regret": _mean(regrets)}
    row["believed"] = len(believed) / len(by_seed)
    if believed:
        found = _error(believed)
        row |= {f"believed_{fact}": found[fact] for fact in ("mean", "coverage") if fact in found}
    return row


def _error(pairs: Sequence[tuple[dict[str, Any], float]]) -> dict[str, float]:
    """Return the error of estimates, and where they have intervals how many hold the truth."""
    errors = [one["value"] - value for one, value in pairs]
    mean, low, high = common.root_mean_square(errors)
    median = statistics.median(abs(error) for error in errors)
    found = {"mean": mean, "low": low, "high": high, "median": median}
    ends = [(one["low"], one["high"]) for one, _ in pairs]
    if all(math.isnan(end[0]) for end in ends):
        return found
    return found | common.coverage(ends, [value for _, value in pairs])


def _finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else -math.inf


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def rows_of(name: str, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a world."""
    world = worlds.WORLDS[name]
    chosen = worlds.targets(world)
    for asked, methods in METHODS.items():
        said = [judged(name, world, asked, seed) for seed in seeds]
        true = truths(world, asked, chosen)
        shared = {
            "world": name,
            "asked": asked,
            "best": max(true.values()),
            "worst": min(true.values()),
            "seconds": _mean([one["seconds"] for one in said]) / len(true),
            "behavior": said[0]["behavior"],
        }
        alike = [of_log(one) for one in said]
        yield summary(LOG, alike, true, seeds, ranks_all=False) | shared
        for method in methods:
            yield summary(method, [of_method(one, method) for one in said], true, seeds) | shared
        for low, high in COVERED:
            part = [_covered(one, low, high) for one in said]
            share = f"fqe, log covers {max(0, low):.0%} to {min(1, high):.0%}"
            yield summary(share, part, true, seeds, ranks_all=False) | shared


def _covered(said: dict[str, Any], low: float, high: float) -> dict[str, dict[str, Any]]:
    """Return what fitted Q evaluation says of policies that the log covers so far."""
    found = of_method(said, "fqe")
    inside = {n: low <= one["covered"] < high for n, one in said["policies"].items()}
    return {name: one for name, one in found.items() if inside[name]}


def text_of(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of one question about one world."""

    def number(row: dict[str, Any], fact: str, form: str) -> str:
        return format(row[fact], form) if fact in row else "-"

    lines = [
        (
            row["name"],
            number(row, "rank", ".2f"),
            number(row, "regret", ".2f"),
            number(row, "mean", ".3g"),
            number(row, "median", ".3g"),
            number(row, "coverage", ".2f"),
            f"{row['believed']:.3g} of {row['answered']:.3g}",
            number(row, "believed_mean", ".3g"),
            number(row, "believed_coverage", ".2f"),
        )
        for row in rows
        if "mean" in row
    ]
    header = ("estimator", "rank", "regret@1", "error", "median", "coverage")
    return common.table((*header, "not warned of", "their error", "coverage"), lines)


def main() -> int:
    """Judge, try out, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="pendulum,cartpole", help="worlds, by commas")
    parser.add_argument("--seeds", type=int, default=3, help="logs of each question")
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    asked = parser.parse_args()
    seeds = (100,) if asked.choose else common.FIVE_SEEDS[: asked.seeds]
    for name in asked.only.split(","):
        rows = list(rows_of(name, seeds))
        for question in METHODS:
            mine = [row for row in rows if row["asked"] == question]
            common.show(f"{name}, {question}: {mine[0]['worst']:.2f} to {mine[0]['best']:.2f}", "")
            common.say(text_of(mine))
        if not asked.choose:
            common.write_rows(f"policies-{name}", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
