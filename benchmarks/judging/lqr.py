"""Estimators where the truth is known: a linear system with a quadratic cost (``make judging``).

    python benchmarks/judging/lqr.py [--repetitions 200] [--fits 10] [--choose] [--again magic ...]

20 steps, discount 0.95. What recorded is a ~ N(-0.4 s, 0.3^2), what is judged N(-0.6 s, 0.25^2),
worth -2.123823 by the backward recursion. Logs of 100 and of 1,000 episodes, 200 of each: root mean
squared error of every estimator, and how many of its 95 % intervals hold the truth. Doubly robust
estimates take values by least squares, stage by stage, from the other half of the episodes; and the
same values halved, which is a wrong model. Then fitted Q evaluation by networks, on the first logs
of 1,000 episodes.

A kernel judges the same policy without its noise, over 1, 3 and 20 steps. Of the first logs what
recorded is cloned too, as where no probabilities were logged.

Prints the tables against the bars, and writes build/judging/lqr.json.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import common
import torch
from torch import Tensor

sys.path.append(str(common.ROOT / "tests"))
import regulator  # noqa: E402
from regulator import BEHAVIOR, DISCOUNT, HORIZON, JUDGED  # noqa: E402

from hindsight_rl import Log  # noqa: E402
from hindsight_rl.diagnostics.ope import estimates, values  # noqa: E402
from hindsight_rl.diagnostics.ope.behavior import behavior_of  # noqa: E402
from hindsight_rl.diagnostics.ope.episodes import Episodes, episodes_of  # noqa: E402
from hindsight_rl.diagnostics.ope.values import Model  # noqa: E402
from hindsight_rl.maths.doubly_robust import folds  # noqa: E402
from hindsight_rl.maths.importance import cumulative_log_ratio, step_weighted  # noqa: E402
from hindsight_rl.maths.intervals import resample  # noqa: E402
from hindsight_rl.maths.kernel import bandwidths, kernel  # noqa: E402
from hindsight_rl.training.given import Answers  # noqa: E402

SIZES, RESAMPLES, DRAWS = (100, 1000), 2000, 4
WITHOUT_CHANCE = (JUDGED[0], 0.0)
# Of networks: chosen on the seeds that are not reported.
FITTING = {"updates": 1500, "hidden": [64, 64], "members": 5}
CHOICE = 10_000  # the first seed that is not reported
CLONES = 20  # logs, of which what recorded them is cloned
# Largest error, and least coverage, at 1,000 episodes.
BARS: dict[str, tuple[float, float]] = {
    "cwpdis": (0.35, 0.0),
    "dr": (0.09, 0.92),
    "wdr": (0.09, 0.92),
    "dr, Q halved": (0.27, 0.0),
    "fqe, networks": (0.15, 0.0),
}
COMPARED = ("cwpdis", "dr", "dr, Q halved", "wdr, Q halved")
"""By logged probabilities, and by those of a clone."""
NAMES = (
    *("is", "pdis", "wis", "cwpdis"),
    *("kernel, 1 step", "kernel, 3 steps", "kernel, 20 steps"),
    *("least squares by stages", "least squares, Q halved"),
    *("dr", "wdr", "magic", "dr, Q halved", "wdr, Q halved", "magic, Q halved"),
    *(f"{one}, {kind}" for one in COMPARED for kind in ("logged", "cloned")),
    "fqe, networks",
)
"""Rows, in the order of the table."""
Found = tuple[float, float, float]
"""Value, low and high; both ends NaN where an estimator has no interval here."""


def truth(name: str) -> float:
    """Return the value of what a row judges: without noise, and for some steps, by a kernel."""
    kernel, steps = name.startswith("kernel"), HORIZON
    if kernel:
        steps = int(name.split()[1])
    p, c = regulator.exact(WITHOUT_CHANCE if kernel else JUDGED)[HORIZON - steps]
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


class Recorded(NamedTuple):
    """One log, and what estimators over episodes take of it."""

    state: Tensor
    action: Tensor
    reward: Tensor
    log_ratio: Tensor
    episodes: Episodes
    counts: Tensor
    seed: int


def of_ratios(log: Recorded) -> Iterator[tuple[str, Found]]:
    """Yield what importance sampling says of one log."""
    for one in estimates.by_weights(log.log_ratio, log.episodes, DISCOUNT, log.counts):
        yield one.method, (one.value, *one.interval)


def of_values(log: Recorded) -> Iterator[tuple[str, Found]]:
    """Yield what right and wrong values alone say of one log."""
    theta = regulator.stagewise(log.state, log.action, log.reward)[0]
    value = float(regulator.value_at(log.state[:, 0], theta).mean())
    nothing = float("nan"), float("nan")
    yield "least squares by stages", (value, *nothing)
    yield "least squares, Q halved", (value / 2.0, *nothing)


def of_both(log: Recorded, methods: tuple[str, ...]) -> Iterator[tuple[str, Found]]:
    """Yield what doubly robust estimates say of one log, with right and with wrong values."""
    model = crossed(log.state, log.action, log.reward, log.seed)
    for suffix, given in (("", model), (", Q halved", Model(model.q / 2.0, model.v / 2.0))):
        for one in estimates.doubly(
            log.log_ratio, log.episodes, given, DISCOUNT, log.counts, methods
        ):
            yield f"{one.method}{suffix}", (one.value, *one.interval)


def of_kernel(log: Recorded) -> Iterator[tuple[str, Found]]:
    """Yield what a kernel says of the same policy without its noise, over few and many steps."""
    gain, spread = BEHAVIOR
    here = log.state[:, :-1]
    recorded = torch.distributions.Normal(gain * here, spread).log_prob(log.action)
    for steps in (1, 3, HORIZON):
        some = slice(steps)
        ratio = kernel(
            log.action[:, some, None],
            WITHOUT_CHANCE[0] * here[:, some, None],
            recorded[:, some],
            torch.ones_like(recorded[:, some], dtype=torch.bool),
            bandwidth=bandwidths(torch.tensor([spread]), len(here), steps),
        )
        found = step_weighted(ratio, log.reward[:, some], discount=DISCOUNT)
        one = estimates.weighed("kernel", found, ratio, log.counts)
        name = f"kernel, {steps} step{'s' if steps > 1 else ''}"
        yield name, (one.value, *one.interval)


def of_clone(log: Recorded) -> Iterator[tuple[str, Found]]:
    """Yield what ratios to a cloned behaviour say, and ratios to the logged one, of some logs."""
    if log.seed % CHOICE >= CLONES:
        return
    common.quiet()
    fitting = common.fitting(FITTING, log.seed)
    behavior = behavior_of(as_log(log.state, log.action, log.reward), fitting, "fitted")
    judged = torch.distributions.Normal(JUDGED[0] * log.state[:, :-1], JUDGED[1])
    cloned = cumulative_log_ratio(
        judged.log_prob(log.action), log.episodes.padded(behavior.log_prob), log.episodes.valid
    )
    for kind, ratio in (("logged", log.log_ratio), ("cloned", cloned)):
        rows = log._replace(log_ratio=ratio)
        for name, one in (*of_ratios(rows), *of_both(rows, ("dr", "wdr"))):
            if name in COMPARED:
                yield f"{name}, {kind}", one


PARTS: dict[str, Callable[[Recorded], Iterator[tuple[str, Found]]]] = {
    "ratios": of_ratios,
    "values": of_values,
    "robust": partial(of_both, methods=("dr", "wdr")),
    "magic": partial(of_both, methods=("magic",)),
    "kernel": of_kernel,
    "clone": of_clone,
}
"""Rows that are computed together, by the word for them on the command line."""


def repeated(part: str, n: int, seeds: range) -> dict[str, Any]:
    """Return what the estimators of a part say of logs of n episodes, a list by name."""
    random = torch.Generator().manual_seed(n)
    counts = resample(n, torch.rand(RESAMPLES, n, generator=random, dtype=torch.float64))
    found: dict[str, Any] = {}
    for seed in seeds:
        state, action, reward = regulator.recorded(n, seed)
        log_ratio = regulator.log_ratio_of(state, action)
        log = Recorded(state, action, reward, log_ratio, whole_episodes(reward), counts, seed)
        for name, one in PARTS[part](log):
            found.setdefault(name, []).append(one)
    return found


def as_log(state: Tensor, action: Tensor, reward: Tensor) -> Log:
    """Return a log of episodes that a time limit cut."""
    last = torch.zeros_like(reward, dtype=torch.bool)
    last[:, -1] = True
    columns: dict[Any, Tensor] = {
        "observation": state[:, :-1].reshape(-1, 1).float(),
        "action": action.reshape(-1, 1).float(),
        "episode": torch.arange(len(reward)).repeat_interleave(HORIZON),
        ("next", "observation"): state[:, 1:].reshape(-1, 1).float(),
        ("next", "reward"): reward.flatten().float(),
        ("next", "terminated"): torch.zeros(reward.numel(), dtype=torch.bool),
        ("next", "truncated"): last.flatten(),
    }
    return Log.from_columns(columns, {"source": "regulator"})


def networks(n: int, seed: int) -> dict[str, Any]:
    """Return what fitted Q evaluation by networks says of one log."""
    common.quiet()
    state, action, reward = regulator.recorded(n, seed)
    log = as_log(state, action, reward)
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
    value = truth(name)
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
        digits = ".3f" if row["high"] < 1000.0 else ".1g"
        error = f"{row['mean']:{digits}} [{row['low']:{digits}}, {row['high']:{digits}}]"
        lines.append((f"{row['episodes']:,}", row["name"], error, held, row["repetitions"], bar))
    header = ("episodes", "estimator", "error [95 %]", "coverage", "logs", "bar")
    return common.table(header, lines)


def rows_of_networks(seeds: range, again: bool) -> Iterator[dict[str, Any]]:
    """Yield the row of fitted Q evaluation."""
    n = max(SIZES)
    fits = []
    for seed in seeds:
        settings = {"networks": FITTING, "n": n, "seed": seed}
        fits.append(common.kept("lqr", settings, lambda seed=seed: networks(n, seed), again=again))
    if fits:
        seconds = sum(each["seconds"] for each in fits) / len(fits)
        yield row_of(n, "fqe, networks", [tuple(each["found"]) for each in fits], seconds)


def main() -> int:
    """Repeat, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--fits", type=int, default=10)
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    parser.add_argument(
        "--again",
        nargs="+",
        choices=[*PARTS, "networks"],
        help="compute the rows of these parts anew, and leave the others as they were",
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    first = CHOICE if asked.choose else 0
    seeds = range(first, first + asked.repetitions)
    made: list[dict[str, Any]] = []
    for n, part in itertools.product(SIZES, asked.again or PARTS):
        if part not in PARTS:
            continue
        settings = {"part": part, "n": n, "first": first, "repetitions": asked.repetitions}
        work = partial(repeated, part, n, seeds)
        found = common.kept("lqr", settings, work, again=asked.again is not None)
        seconds = found.pop("seconds")
        made += [row_of(n, name, each, seconds) for name, each in found.items()]
    if asked.again is None or "networks" in asked.again:
        made += rows_of_networks(range(first, first + asked.fits), asked.again is not None)
    before = [] if asked.again is None else common.rows_of("lqr")
    rows = {_place(row): row for row in (*before, *made)}
    ordered = [rows[place] for place in sorted(rows)]
    common.show("Regulator", text_of(ordered))
    if not asked.choose:
        common.write_rows("lqr", ordered)
    return 0


def _place(row: dict[str, Any]) -> tuple[int, int]:
    """Return where a row stands in the table."""
    return row["episodes"], NAMES.index(row["name"])


if __name__ == "__main__":
    raise SystemExit(main())
