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
PAGE = ROOT / "docs" / "imagined.md"


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
    whole = torch.zeros(SIDE, SIDE)
    cells = seen.floor().long()
    maps = [("logged states", whole.index_put(cells.unbind(-1), torch.ones(len(seen)), True))]
    place = found["place"].floor().long().unbind(-1)
    count = whole.index_put(place, torch.ones(len(found["place"])), True)
    for name, title in (("doubt", "disagreement"), ("error", "error of the mean, units")):
        maps.append((title, whole.index_put(place, found[name], True) / count))
    for axis, (title, value) in zip(axes, maps, strict=True):
        shown = torch.where(torch.from_numpy(WALLS), torch.nan, value)
        drawn = axis.imshow(shown, cmap="magma", vmax=float(shown.nanquantile(0.99)))
        figure.colorbar(drawn, ax=axis, shrink=0.8)
        axis.set_title(title)
        axis.set(xticks=[], yticks=[], facecolor="lightgrey")
    folder = ROOT / "docs" / "imagined"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "rooms.svg", metadata={"Date": None})


def doubts(seeds: tuple[int, ...]) -> list[Any]:
    """Return rows on the model: its error, steps into walls, and whether it knows."""
    found = [kept("rooms", "calibration", s, lambda: calibration(s)) for s in seeds]  # noqa: B023
    return [
        row(name, [each | {"value": each["value"][key]} for each in found], seeds)
        for name, key in (
            ("error of the mean, units", "error"),
            ("imagined steps into walls", "wall"),
            ("correlation of disagreement and error", "correlation"),
        )
    ]


def goals(seeds: tuple[int, ...]) -> list[Any]:
    """Return a row for every data step, on the log alone and with imagined rows."""
    rows = []
    for data in DATA:
        for method in METHODS:
            name = f"{method}, {data}"
            found = [kept("rooms", name, s, lambda: fitted(method, data, s)) for s in seeds]  # noqa: B023
            rows.append(row(name, found, seeds, method=method, data=data))
    return rows


def document_goals(rows: list[Any], seeds: int) -> None:
    """Rewrite the table of docs/imagined.md."""
    found = {(line["method"], line["data"]): line for line in rows}
    lines = []
    for method in METHODS:
        cells = [found[method, data] for data in DATA]
        texts = [f"{c['mean']:.0%} [{c['low']:.0%}, {c['high']:.0%}]" for c in cells]
        lines.append([method, *texts])
    text = (
        f"Goals reached in {TESTS} test episodes over {seeds} seeds, Student's 95 % intervals.\n\n"
        f"{table(['goals', *DATA], lines)}"
    )
    replace_part(PAGE, "rooms", text)


def document_doubts(doubts: list[dict[str, Any]], seeds: int) -> None:
    """Rewrite what docs/imagined.md says of the model."""
    error, walls, along = (
        f"{line['mean']:.2f} [{line['low']:.2f}, {line['high']:.2f}]" for line in doubts
    )
    text = (
        f"Of steps from all over the map the model's mean is wrong by {error} units, a share of "
        f"{walls} ends in a wall by it, and disagreement and error correlate by {along} "
        f"({seeds} seeds)."
    )
    replace_part(PAGE, "doubts", text)


def main() -> None:
    """Fit all rows, draw the picture and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", type=int, help="fit this seed alone, and write nothing else")
    parser.add_argument("--parts", nargs="*", default=["doubts", "goals"])
    parser.add_argument("--choose", action="store_true", help="a seed that is not reported")
    options = parser.parse_args()
    quiet()
    seeds = CHOICE_SEEDS[:1] if options.choose else FIVE_SEEDS[: options.seeds]
    seeds = seeds if options.only is None else (options.only,)
    rows = goals(seeds) if "goals" in options.parts else []
    lines = doubts(seeds) if "doubts" in options.parts else []
    if options.choose or options.only is not None:
        return
    written("rooms", [*lines, *rows])
    if lines:
        picture(seeds[0])
        document_doubts(lines, len(seeds))
    if rows:
        document_goals(rows, len(seeds))


if __name__ == "__main__":
    main()
