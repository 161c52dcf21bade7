"""Which checkpoint of a run to take, by its log alone (``make judging``).

    python benchmarks/judging/checkpoints.py [--seeds 3] [--choose] [--only IQL]

rllib_pendulum medium: 50 episodes of a half-trained SAC, return -524. IQL and TD3+BC are fitted,
with a checkpoint every 500 updates. ``hindsight judge --select`` takes the one with the highest
lower end of fitted Q evaluation, and beside it stands the one with the highest value; every
checkpoint then plays 100 episodes. Prints the true return of the chosen, the last and the best
one, and of one picked blindly (the mean of all), and writes build/judging/checkpoints.json. Logs:
HINDSIGHT_DATA names their folder.
"""

import argparse
import functools
import itertools
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common

DATA = Path(os.environ.get("HINDSIGHT_DATA", common.ROOT.parent / "shared" / "data"))
MEDIUM = DATA / "rllib_pendulum" / "pendulum_medium_sac_50eps.npz"
UPDATES, EVERY, EPISODES, TEST_SEED = 3000, 500, 100, 2_000_000
NETWORK = {"hidden": [64, 64]}
LEARNERS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "IQL": ("IQL", {"network": NETWORK, "head": "tanh_gaussian"}),
    "TD3+BC": ("TD3BC", {"network": NETWORK}),
}
# Fewer updates and smaller networks than the command's.
FITTING = {"updates": 2000, "hidden": [64, 64], "members": 5}
DISCOUNT = 0.98
WAYS, BY = ("fqe", "lstd"), {"lower end": 1, "value": 0}


def fitted(name: str, seed: int) -> list[Path]:
    """Return the checkpoints of a run, in their order."""
    import torch
    from lightning.pytorch import Trainer, seed_everything

    import hindsight_rl
    from hindsight_rl.nets.network import Network
    from hindsight_rl.training.checkpoints.callbacks import Checkpoints

    folder = common.HOME / "checkpoints" / f"{name}-{seed}"
    paths = [folder / f"step={step}.ckpt" for step in range(EVERY, UPDATES + 1, EVERY)]
    if all(path.exists() for path in paths):
        return paths
    common.quiet()
    seed_everything(seed, verbose=False)
    log = hindsight_rl.read_log(MEDIUM, "rllib_pendulum_sac")
    data = hindsight_rl.OfflineDataModule(log, seed=seed)
    learner, model = LEARNERS[name]
    rate = functools.partial(torch.optim.Adam, lr=1e-3, fused=True)
    arguments = {**model, "network": Network(**model["network"])}
    Trainer(
        max_steps=UPDATES,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        callbacks=[Checkpoints(folder, every=EVERY, keep=-1)],
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(getattr(hindsight_rl, learner)(data.spec, optimizer=rate, threads=1, **arguments), data)
    return paths


def run(name: str, seed: int) -> dict[str, Any]:
    """Return what checkpoints are said to be worth, and what they get."""
    from hindsight_rl import load_learner, read_log, rollout
    from hindsight_rl.diagnostics.ope.judge import judge
    from hindsight_rl.diagnostics.ope.question import Question

    paths = fitted(name, seed)
    common.quiet()
    fitting = common.fitting(FITTING, seed)
    question = Question(discount=DISCOUNT, methods=WAYS, by="fqe", check=False, fitting=fitting)
    found = judge(paths, read_log(MEDIUM, "rllib_pendulum_sac"), question, say=common.say)
    said = {
        way: [None if row is None else [row.value, *row.interval] for row in rows]
        for way, rows in ((way, [one.estimate(way) for one in found.policies]) for way in WAYS)
    }
    returns = [
        float(
            rollout(
                load_learner(path).act_numpy, "Pendulum-v1", episodes=EPISODES, seed=TEST_SEED
            ).returns.mean()
        )
        for path in paths
    ]
    covered = [one.covered for one in found.policies]
    return {"said": said, "returns": returns, "covered": covered}


def chosen(said: Sequence[Sequence[float] | None], by: int) -> int | None:
    """Return the checkpoint with the highest number, ``None`` where one has none.

    Args:
        said: Value, low and high of each.
        by: Which of the three.
    """
    if any(one is None for one in said):
        return None
    return max(range(len(said)), key=lambda number: said[number][by])


def rows_of(name: str, runs: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> list[Any]:
    """Return the rows of a learner."""
    picked: dict[str, list[float]] = {}
    ranks: dict[str, list[float]] = {}
    for one in runs:
        returns = one["returns"]
        for way, by in itertools.product(WAYS, BY):
            number = chosen(one["said"][way], BY[by])
            if number is not None:
                row = f"chosen by {way}, {by}"
                picked.setdefault(row, []).append(returns[number])
                values = [each[0] for each in one["said"][way]]
                ranks.setdefault(row, []).append(common.rank_correlation(values, returns))
        picked.setdefault("last", []).append(returns[-1])
        picked.setdefault("best", []).append(max(returns))
        picked.setdefault("blind", []).append(statistics.fmean(returns))
        picked.setdefault("worst", []).append(min(returns))
    rows = []
    for way, values in picked.items():
        mean, low, high = common.interval(values)
        row = {"name": f"{name}, {way}", "mean": mean, "low": low, "high": high}
        row |= {"values": values, "seeds": list(seeds)}
        if way in ranks:
            row["rank"] = statistics.fmean(ranks[way])
        rows.append(row | {"seconds": statistics.fmean(one["seconds"] for one in runs)})
    return rows


def text_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table."""
    lines = [
        (
            row["name"],
            f"{row['mean']:.0f}",
            ", ".join(f"{value:.0f}" for value in row["values"]),
            f"{row['rank']:.2f}" if "rank" in row else "-",
        )
        for row in rows
    ]
    return common.table(("checkpoint", "return", "of each seed", "rank"), lines)


def main() -> int:
    """Fit, judge, try out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    parser.add_argument("--only", default="", help="part of the name of a learner")
    asked = parser.parse_args()
    seeds = (100,) if asked.choose else common.FIVE_SEEDS[: asked.seeds]
    rows: list[dict[str, Any]] = []
    for name, (_, model) in LEARNERS.items():
        if asked.only not in name:
            continue
        runs = []
        for seed in seeds:
            settings = {"learner": name, "model": dict(model), "seed": seed, "fitting": FITTING}
            settings |= {"updates": UPDATES, "every": EVERY, "discount": DISCOUNT}
            runs.append(common.kept("checkpoints", settings, functools.partial(run, name, seed)))
        rows += rows_of(name, runs, seeds)
    common.show("Choice of a checkpoint", text_of(rows))
    if not asked.choose and not asked.only:
        common.write_rows("checkpoints", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
