"""How far choosing by a learned reward can be trusted: proxy and true reward against KL.

    python benchmarks/good/overoptimised.py [--seeds 5] [--no_document]

Reward models of three members learn from 100 answers, a tenth of them wrong, about segments of a
Pendulum log (the one of preferences.py). Of n other segments of that log the one with the largest
learned reward is chosen; what it is worth in truth is compared with what the model says. Choosing
the best of n is a policy whose KL from choosing at random is log n - (n - 1) / n. Expectations over
draws of n are exact for the 4,096 segments. Writes the table and the picture of docs/good.md and
build/overoptimised.json.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import matplotlib
import torch
from lightning.pytorch import seed_everything
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder above

from preferences import HIDDEN, LENGTH, WORLDS, Run, adam, fit
from results import replace_part
from shared import BUILD, ROOT, interval, quiet, say, table

from hindsight_rl import LearnedReward, RewardModel
from hindsight_rl.files import write_text, write_whole
from hindsight_rl.logs.segments import draw_pairs, segment_returns
from hindsight_rl.maths.preferences import aggregate, best_of, standardised

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHOWN = (1, 4, 16, 64, 256, 1024)
SEGMENTS, ANSWERS, PAIRS, UPDATES = 4096, (100, 0.1), 32, 300
WAYS = ("one member", "mean", "min", "mean-std", "the true reward")
TEST_SEED = 1_000  # of segments that no teacher was asked about
COLUMNS = {
    "mean: promised": "mean of three promises [95 %]",
    "mean: true": "and gives",
    "one member: true": "one member gives",
    "min: true": "min",
    "mean-std: true": "mean-std",
    "the true reward: true": "the true reward",
}
Curves = dict[str, list[float]]


def expected_best(proxy: Tensor, value: Tensor, count: int) -> float:
    """Return the mean value of the one of n with the largest proxy, over all draws of n.

    The k-th smallest of N is the largest of n with probability C(k - 1, n - 1) / C(N, n).

    Args:
        proxy: ``[N]`` float64, what is chosen by.
        value: ``[N]`` float64, what is averaged.
        count: n, at most N.

    Returns:
        The mean.
    """
    total, rank = len(proxy), torch.arange(count, len(proxy) + 1, dtype=torch.float64)
    log_ways = torch.lgamma(rank) - torch.lgamma(rank - count + 1) - math.lgamma(count)
    log_all = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
    chosen = value[proxy.argsort(stable=True)][count - 1 :]
    return float(((log_ways - log_all).exp() * chosen).sum())


def curves(seed: int) -> Curves:
    """Return, of each way to choose, what is promised and what is got, in standard deviations."""
    run = Run(WORLDS["pendulum"], seed)
    seed_everything(seed, verbose=False)
    data = run.pairs(ANSWERS, PAIRS)
    model = fit(RewardModel(data.spec, network=HIDDEN, optimizer=adam), data, UPDATES)
    members = standardised(LearnedReward(model, least_accuracy=0.0).members(run.log))
    rows = draw_pairs(run.log, LENGTH, SEGMENTS // 2, seed=TEST_SEED + seed).flatten()
    gold = standardised(segment_returns(run.log, rows, LENGTH).double())
    steps = rows[:, None] + torch.arange(LENGTH)
    found: Curves = {}
    for way in WAYS:
        if way == "the true reward":
            proxy = gold
        elif way == "one member":
            proxy = standardised(members[0][steps].sum(-1))
        else:
            proxy = standardised(aggregate(members, way)[steps].sum(-1))  # type: ignore[arg-type]
        found[f"{way}: promised"] = [expected_best(proxy, proxy, n) for n in COUNTS]
        found[f"{way}: true"] = [expected_best(proxy, gold, n) for n in COUNTS]
    return found


def draw(found: list[Curves], path: Path) -> None:
    """Draw proxy and true reward against the square root of KL, mean over seeds."""
    distance = [math.sqrt(best_of(n, 0.0).divergence) for n in COUNTS]
    plt.rcParams["svg.hashsalt"] = "overoptimised"  # equal results give equal files
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    for axis, ways in zip(axes, (("mean",), WAYS), strict=True):
        for way in ways:
            for part in ("promised", "true") if len(ways) == 1 else ("true",):
                values = torch.tensor([one[f"{way}: {part}"] for one in found])
                name = part if len(ways) == 1 else way
                axis.plot(distance, values.mean(0), marker=".", label=name)
                if len(ways) == 1:
                    for line in values:
                        axis.plot(distance, line, color=axis.lines[-1].get_color(), alpha=0.2)
        axis.set_xlabel("square root of KL, nats")
        axis.grid(alpha=0.3)
    axes[0].set_title("mean of three members", fontsize=10)
    axes[1].set_title("true reward, by what one chooses by", fontsize=10)
    axes[0].set_ylabel("reward of the chosen segment, std")
    axes[1].set_ylim(0.9, 1.25)
    axes[1].set_xlim(0.75, distance[-1] + 0.05)
    for axis in axes:
        axis.legend(fontsize=8)
    figure.tight_layout()
    write_whole(path, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))


def main() -> int:
    """Print the table, draw the picture, and put both into the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no_document", action="store_true")
    given = parser.parse_args()
    quiet()
    start, found = time.perf_counter(), []
    for seed in range(given.seeds):
        path = BUILD / "good" / f"overoptimised-{seed}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(curves(seed)))
            say(f"seed {seed}: done")
        found.append(dict(json.loads(path.read_text())))
    lines, rows = [], []
    for count in SHOWN:
        place, cells = COUNTS.index(count), []
        for name in COLUMNS:
            mean, low, high = interval([one[name][place] for one in found])
            around = f" [{low:.2f}, {high:.2f}]" if name.startswith("mean:") else ""
            cells.append(f"{mean:.2f}{around}".replace("-0.00", "0.00"))
            line = {"name": f"best of {count}, {name}", "mean": mean, "low": low, "high": high}
            seconds = time.perf_counter() - start
            lines.append(line | {"seeds": len(found), "seconds": seconds})
        rows.append((f"{count:,}", f"{best_of(count, 0.0).divergence:.2f}", *cells))
    text = table(("best of", "KL, nats", *COLUMNS.values()), rows)
    say(text)
    write_text(BUILD / "overoptimised.json", json.dumps(lines, indent=1))
    if not given.no_document:
        draw(found, ROOT / "docs" / "overoptimised.svg")
        replace_part(ROOT / "docs" / "good.md", "overoptimised", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
