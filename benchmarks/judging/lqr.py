"""Estimators where the truth is known: a linear system with a quadratic cost (``make judging``).

    python benchmarks/judging/lqr.py [--repetitions 200] [--fits 10] [--choose]

20 steps, discount 0.95. What recorded is a ~ N(-0.4 s, 0.3^2), what is judged N(-0.6 s, 0.25^2),
worth -2.123823 by the backward recursion. Logs of 100 and of 1,000 episodes, 200 of each: root mean
squared error of every estimator, and how many of its 95 % intervals hold the truth. Doubly robust
estimates take values by least squares, stage by stage, from the other half of the episodes; and the
same values halved, which is a wrong model. Then fitted Q evaluation by networks, on the first logs
of 1,000 episodes. Prints the tables against the bars, and writes build/judging/lqr.json.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import common
import torch
from torch import Tensor

sys.path.append(str(common.ROOT / "tests"))
import regulator  # noqa: E402
from regulator import DISCOUNT, HORIZON, JUDGED  # noqa: E402

from hindsight_rl.diagnostics.ope import estimates  # noqa: E402
from hindsight_rl.diagnostics.ope.episodes import Episodes  # noqa: E402
from hindsight_rl.diagnostics.ope.values import Model  # noqa: E402
from hindsight_rl.maths.doubly_robust import folds  # noqa: E402
from hindsight_rl.maths.intervals import resample  # noqa: E402

SIZES, RESAMPLES, DRAWS = (100, 1000), 2000, 4
# Of networks: chosen on the seeds that are not reported.
FITTING = {"updates": 1500, "hidden": [64, 64], "members": 5}
# Largest error, and least coverage, at 1,000 episodes.
BARS: dict[str, tuple[float, float]] = {
    "cwpdis": (0.35, 0.0),
    "dr": (0.09, 0.92),
    "wdr": (0.09, 0.92),
    "dr, Q halved": (0.27, 0.0),
    "fqe, networks": (0.15, 0.0),
}
Found = tuple[float, float, float]
"""Value, low and high; both ends NaN where an estimator has no interval here."""


def truth() -> float:
    """Return the value of what is judged."""
    p, c = regulator.exact(JUDGED)[0]
    return p + c


def crossed(state: Tensor, action: Tensor, reward: Tensor, seed: int) -> Model:
    """Return values of every episode by least squares on the other half."""
    n = len(state)
    random = torch.Generator().manual_seed(seed)
    fold = folds(n, 2, torch.rand(n, generator=random, dtype=torch.float64))
    q, v = torch.zeros_like(reward), torch.zeros_like(state)
    for number in (0, 1):
        mine, others = fold == number, fold != number
        found = regulator.stagewise(state[others], action[others], reward[others])
        for step, theta in enumerate(found):
            here = state[mine, step]
            q[mine, step] = regulator.features(here, action[mine, step]) @ theta
            v[mine, step] = regulator.value_at(here, theta)
    return Model(q, v)


def whole_episodes(reward: Tensor) -> Episodes:
    """Return episodes of one length, side by side."""
    row = torch.arange(reward.numel()).reshape(reward.shape)
    all_of_them = torch.ones_like(row, dtype=torch.bool)
    owner, _ = all_of_them.nonzero(as_tuple=True)
    cut = torch.zeros(len(reward), dtype=torch.bool)
    return Episodes(row, all_of_them, reward, cut, owner, row.flatten())


def estimators(n: int, seed: int, counts: Tensor) -> Iterator[tuple[str, Found]]:
    """Yield what every estimator says of one log."""
    state, action, reward = regulator.recorded(n, seed)
    log_ratio = regulator.log_ratio_of(state, action)
    episodes = whole_episodes(reward)
    for one in estimates.by_weights(log_ratio, episodes, DISCOUNT, counts):
        yield one.method, (one.value, *one.interval)
    theta = regulator.stagewise(state, action, reward)[0]
    value = float(regulator.value_at(state[:, 0], theta).mean())
    nothing = float("nan"), float("nan")
    yield "least squares by stages", (value, *nothing)
    yield "least squares, Q halved", (value / 2.0, *nothing)
    model = crossed(state, action, reward, seed)
    for suffix, given in (("", model), (", Q halved", Model(model.q / 2.0, model.v / 2.0))):
        for one in estimates.doubly(log_ratio, episodes, given, DISCOUNT, counts):
            yield f"{one.method}{suffix}", (one.value, *one.interval)


def repeated(n: int, seeds: range) -> dict[str, Any]:
    """Return what every estimator says of logs of n episodes, a list by name."""
    random = torch.Generator().manual_seed(n)
    counts = resample(n, torch.rand(RESAMPLES, n, generator=random, dtype=torch.float64))
    found: dict[str, Any] = {}
    for seed in seeds:
        for name, one in estimators(n, seed, counts):
            found.setdefault(name, []).append(one)
    return found


def networks(n: int, seed: int) -> dict[str, Any]:
    """Return what fitted Q evaluation by networks says of one log."""
    from hindsight_rl import Log
    from hindsight_rl.diagnostics.ope import values
    from hindsight_rl.diagnostics.ope.episodes import episodes_of
    from hindsight_rl.training.given import Answers

    common.quiet()
    state, action, reward = regulator.recorded(n, seed)
    last = torch.zeros_like(reward, dtype=torch.bool)
    last[:, -1] = True
    columns: dict[Any, Tensor] = {
        "observation": state[:, :-1].reshape(-1, 1).float(),
        "action": action.reshape(-1, 1).float(),
        "episode": torch.arange(n).repeat_interleave(HORIZON),
        ("next", "observation"): state[:, 1:].reshape(-1, 1).float(),
        ("next", "reward"): reward.flatten().float(),
        ("next", "terminated"): torch.zeros(reward.numel(), dtype=torch.bool),
        ("next", "truncated"): last.flatten(),
    }
    log = Log.from_columns(columns, {"source": "regulator"})
    random = torch.Generator().manual_seed(seed)
    gain, spread = JUDGED

    def answers(states: Tensor) -> Tensor:
        noise = torch.randn(states.numel(), DRAWS, 1, generator=random, dtype=torch.float64)
        return (gain * states.reshape(-1, 1, 1) + spread * noise).float()

    given = Answers(answers(state[:, :-1]), answers(state[:, 1:]))
    held = values.with_answers(log, given, False)
    fitting = common.fitting(FITTING, seed)
    learner = values.fitted_values(held, fitting, discount=DISCOUNT, horizon=HORIZON)
    one = estimates.by_values(values.start_values(learner, log, episodes_of(log), given))
    return {"found": (one.value, *one.interval)}


def row_of(n: int, name: str, found: list[Found], seconds: float) -> dict[str, Any]:
    """Return a row of the table."""
    value = truth()
    error, low, high = common.root_mean_square([one[0] - value for one in found])
    row: dict[str, Any] = {"name": name, "episodes": n, "mean": error, "low": low, "high": high}
    row |= {"repetitions": len(found), "seconds": seconds}
    if found[0][1] == found[0][1]:
        row |= common.coverage([one[1:] for one in found], [value] * len(found))
    if n == max(SIZES) and name in BARS:
        most, least = BARS[name]
        reached = error <= most and row.get("coverage", 1.0) >= least
        row |= {"bar": most, "least_coverage": least, "reached": reached}
    return row


def text_of(rows: list[dict[str, Any]]) -> str:
    """Return the table."""
    lines = []
    for row in rows:
        held = "-" if "coverage" not in row else f"{row['coverage']:.3f}"
        bar = ""
        if "bar" in row:
            least = f", {row['least_coverage']:.2f}" if row["least_coverage"] else ""
            bar = f"{row['bar']:.2f}{least}: {'reached' if row['reached'] else 'MISSED'}"
        error = f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        lines.append((f"{row['episodes']:,}", row["name"], error, held, row["repetitions"], bar))
    header = ("episodes", "estimator", "error [95 %]", "coverage", "logs", "bar")
    return common.table(header, lines)


def main() -> int:
    """Repeat, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--fits", type=int, default=10)
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    first = 10_000 if asked.choose else 0
    rows: list[dict[str, Any]] = []
    for n in SIZES:
        seeds = range(first, first + asked.repetitions)
        settings = {"n": n, "first": first, "repetitions": asked.repetitions}
        found = common.kept("lqr", settings, lambda n=n, seeds=seeds: repeated(n, seeds))
        seconds = found.pop("seconds")
        rows += [row_of(n, name, each, seconds) for name, each in found.items()]
    fits = []
    for seed in range(first, first + asked.fits):
        settings = {"networks": FITTING, "n": max(SIZES), "seed": seed}
        fits.append(common.kept("lqr", settings, lambda seed=seed: networks(max(SIZES), seed)))
    if fits:
        seconds = sum(each["seconds"] for each in fits) / len(fits)
        found = [tuple(each["found"]) for each in fits]
        rows.append(row_of(max(SIZES), "fqe, networks", found, seconds))
    common.show("Regulator", text_of(rows))
    if not asked.choose:
        common.write_rows("lqr", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
