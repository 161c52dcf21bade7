"""Four rooms: hindsight goals and inverse RL on imagined rows, and where the model is in doubt.

    python benchmarks/imagined/rooms.py [--seeds 5] [--only SEED] [--choose]

A log of 40 episodes of wandering, labelled by nobody, and a model of it that sees positions alone:
it must learn the walls, or imagine steps through them. SAC is fitted to the goals that rows reached
later (HER) and to those that inverse RL gives them (HIPI), on the log alone and with half of each
batch imagined; rewards are the family's on both. 100 test episodes with fresh goals. Beside it: how
many imagined steps end in a wall, how disagreement goes with the error, and a picture of both over
the map. Writes build/imagined_rooms.json, docs/imagined/rooms.svg and a table of docs/imagined.md.
"""

import argparse
from typing import Any

import matplotlib
import numpy as np
import torch
from lightning.pytorch import seed_everything
from worlds import HOME, adam, kept, model_of, row, written

from hindsight_rl import (
    SAC,
    FutureGoal,
    GoalReaching,
    ImaginedRows,
    Log,
    Network,
    OfflineDataModule,
    Relabeler,
    TransitionInverseRL,
    read_log,
)
from hindsight_rl.cli.main import main as hindsight
from hindsight_rl.envs.four_rooms import SIDE, WALLS, is_free, step_many
from hindsight_rl.envs.rollout import rollout

# ``worlds`` puts the folder above on the path.
from results import replace_part  # isort: skip
from shared import CHOICE_SEEDS, FIVE_SEEDS, ROOT, quiet, silent_trainer, table  # isort: skip

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

ENV, EPISODES, UPDATES, BATCH = "Hindsight/FourRooms-v0", 40, 3_000, 128
TESTS, TEST_SEED = 100, 2_000_000
NETWORK = Network(hidden=(64, 64), frequencies=3)
ROUND: dict[str, Any] = {"every": 500, "rows": 2_000, "horizon": 5, "keep": 2}
HALVES = {"log": 0.5, "imagined": 0.5}
METHODS = ("goals reached later", "inverse RL")
DATA = ("log", "log and imagined rows")


def wandering(seed: int) -> Log:
    """Return episodes of wandering."""
    folder = HOME / "logs" / f"rooms-{seed}"
    words = ["collect", "--env", ENV, "--episodes", str(EPISODES), "--seed", str(seed)]
    if not folder.exists() and hindsight([*words, "--good", "0", "--output", str(folder)]):
        raise SystemExit(1)
    return read_log(folder)


def relabeler(method: str) -> Relabeler:
    """Return the data step of a row."""
    family = GoalReaching(1.0)
    if method == METHODS[0]:
        return FutureGoal(family)
    return TransitionInverseRL(family, propose="reached", candidates=32, fraction=1.0)


def model(seed: int) -> tuple[str, Any]:
    """Return the model of a log."""
    return model_of(wandering(seed), "rooms", seed, 2_000, network=NETWORK)


def fitted(method: str, data: str, seed: int) -> float:
    """Return the share of test episodes that reach their goal."""
    log, more = wandering(seed), {}
    if data == DATA[1]:
        more = {"imagined": ImaginedRows(model(seed)[0], **ROUND), "mix": HALVES}
    seed_everything(seed, verbose=False)
    module = OfflineDataModule(log, [relabeler(method)], batch_size=BATCH, seed=seed, **more)
    learner = SAC(
        module.spec,
        network=NETWORK,
        optimizer=adam,
        discount=0.98,
        value_range=(-50.0, 0.0),
        tau=0.01,
    )
    silent_trainer(UPDATES).fit(learner, module)
    found = rollout(learner.eval().player(), ENV, episodes=TESTS, seed=TEST_SEED)
    if found.successes is None:
        raise RuntimeError(f"{ENV} reports no success")
    return float(found.successes.mean())


def steps_of(seed: int, count: int = 4_000) -> dict[str, torch.Tensor]:
    """Return the model's errors in steps from free places all over the map, and its doubts.

    The world pushes at random, and the model's mean is compared with the mean over 64 pushes.
    """
    generator = torch.Generator().manual_seed(seed)
    place = torch.rand(4 * count, 2, generator=generator) * SIDE
    place = place[torch.from_numpy(is_free(place.numpy()))][:count]
    action = torch.rand(len(place), 2, generator=generator) * 2 - 1
    pushes = torch.randn(64, len(place), generator=generator)
    each = [step_many(place.numpy(), action.numpy(), push.numpy()) for push in pushes]
    came = torch.from_numpy(np.mean(each, axis=0)).float()
    imagine = model(seed)[1].imagine
    with torch.no_grad():
        said = imagine(place, action)
    error = (said.next_observation - came).norm(dim=-1)
    wall = torch.from_numpy(~is_free(said.next_observation.numpy()))
    return {"place": place, "error": error, "doubt": said.disagreement, "wall": wall}


def calibration(seed: int) -> dict[str, float]:
    """Return how disagreement goes with the error, and how many steps end in a wall."""
    found = steps_of(seed)
    pair = torch.stack([found["doubt"], found["error"]])
    return {
        "correlation": float(torch.corrcoef(pair)[0, 1]),
        "wall": float(found["wall"].float().mean()),
        "error": float(found["error"].mean()),
    }


def picture(seed: int) -> None:
    """Draw disagreement and error over the map, and what was logged."""
    found, log = steps_of(seed, 20_000), wandering(seed)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    seen = log.column("observation")
    axes[0].plot(seen[:, 1], seen[:, 0], ".", markersize=1.5, color="#0000a7")
    axes[0].set_title(f"{len(log)} logged states")
    for axis, name, title in (
        (axes[1], "doubt", "disagreement"),
        (axes[2], "error", "error of the mean, units"),
    ):
        place, value = found["place"], found[name]
        drawn = axis.scatter(
            place[:, 1], place[:, 0], c=value, s=2, vmax=float(value.quantile(0.99)), cmap="magma"
        )
        figure.colorbar(drawn, ax=axis, shrink=0.8)
        axis.set_title(title)
    for axis in axes:
        axis.imshow(WALLS, cmap="Greys", extent=(0, SIDE, SIDE, 0), alpha=0.35)
        axis.set(xlim=(0, SIDE), ylim=(SIDE, 0), xticks=[], yticks=[], aspect="equal")
    folder = ROOT / "docs" / "imagined"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "rooms.svg", metadata={"Date": None})


def document(rows: list[Any], doubts: list[dict[str, Any]], seeds: int) -> None:
    """Rewrite the table of docs/imagined.md."""
    found = {(line["method"], line["data"]): line for line in rows}
    lines = []
    for method in METHODS:
        cells = [found[method, data] for data in DATA]
        texts = [f"{c['mean']:.0%} [{c['low']:.0%}, {c['high']:.0%}]" for c in cells]
        lines.append([method, *texts])
    named = {line["name"]: line for line in doubts}
    walls, along = named["imagined steps into walls"], named["correlation of doubt and error"]
    text = (
        f"Goals reached in {TESTS} test episodes over {seeds} seeds, Student's 95 % intervals.\n\n"
        f"{table(['goals', *DATA], lines)}\n\n"
        f"Of steps from all over the map {walls['mean']:.0%} [{walls['low']:.0%}, "
        f"{walls['high']:.0%}] end in a wall by the model's mean; its disagreement and its error "
        f"correlate by {along['mean']:.2f} [{along['low']:.2f}, {along['high']:.2f}]."
    )
    replace_part(ROOT / "docs" / "imagined.md", "rooms", text)


def main() -> None:
    """Fit all rows, draw the picture and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", type=int, help="fit this seed alone, and write nothing else")
    parser.add_argument("--choose", action="store_true", help="a seed that is not reported")
    options = parser.parse_args()
    quiet()
    seeds = CHOICE_SEEDS[:1] if options.choose else FIVE_SEEDS[: options.seeds]
    seeds = seeds if options.only is None else (options.only,)
    doubts, rows = [kept("rooms", "calibration", s, lambda: calibration(s)) for s in seeds], []  # noqa: B023
    for data in DATA:
        for method in METHODS:
            name = f"{method}, {data}"
            found = [kept("rooms", name, s, lambda: fitted(method, data, s)) for s in seeds]  # noqa: B023
            rows.append(row(name, found, seeds, method=method, data=data))
    if options.choose or options.only is not None:
        return
    measured = [
        row(name, [each | {"value": each["value"][key]} for each in doubts], seeds)
        for name, key in (
            ("imagined steps into walls", "wall"),
            ("correlation of doubt and error", "correlation"),
            ("error of the mean, units", "error"),
        )
    ]
    written("rooms", [*rows, *measured])
    picture(seeds[0])
    document(rows, measured, len(seeds))


if __name__ == "__main__":
    main()
