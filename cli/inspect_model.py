"""``hindsight inspect LOG --model CHECKPOINT``: errors of a model of the dynamics, by horizon."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hindsight_rl.cli.runs import chosen_checkpoint
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.horizons import LEAST_CORRELATION, horizon_errors
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.ports import Foresees
from hindsight_rl.training.checkpoints.file import read_checkpoint
from hindsight_rl.training.checkpoints.load import load_learner
from hindsight_rl.training.shown import check_fits

ALL = "all episodes: none of this log are known to have been held out from the model"


def model_errors(
    source: str, columns: ColumnMap | str | None, model: str, horizon: int
) -> dict[str, Any]:
    """Return the errors of a model on a log: on the episodes held out from it, if they are known.

    Args:
        source: The log.
        columns: Its column map.
        model: Checkpoint of ``Dynamics``, or a run of it.
        horizon: Largest number of steps.

    Returns:
        ``model``, ``judged_on``, ``uncertainty`` and ``horizons``, one for each number of steps.

    Raises:
        ValueError: The checkpoint is of no model, or of other observations or actions.
        LogError: The log cannot be read.
    """
    path = chosen_checkpoint(Path(model)) if Path(model).is_dir() else Path(model)
    learner = load_learner(path)
    if not isinstance(learner, Foresees):
        raise ValueError(
            f"{path}: {type(learner).__name__} does not say what follows actions: give a "
            "checkpoint of Dynamics (hindsight fit --config dynamics)"
        )
    split = read_checkpoint(path).get("OfflineDataModule") or {}
    shares = {name: split[name] for name in ("validation", "seed") if name in split}
    data = OfflineDataModule(source, columns=columns, **shares)
    check_fits(str(path), learner.spec, data.spec)
    known = shares.get("validation") and split.get("log_hash") == data.log_hash
    rows = torch.cat([batch[0]["index"] for batch in data.val_dataloader()]) if known else None
    found = horizon_errors(learner, data.log, rows, horizon=horizon)
    return {
        "model": str(path),
        "judged_on": f"{len(rows):,} rows that were held out from it" if rows is not None else ALL,
        "uncertainty": str(vars(learner).get("uncertainty")),
        "horizons": [row.as_dict() for row in found],
    }


def model_lines(about: Mapping[str, Any]) -> tuple[list[list[str]], list[str]]:
    """Return a table of errors by horizon, and what there is to say of it.

    Args:
        about: What :func:`model_errors` returned.

    Returns:
        Rows of cells, the first of titles; and sentences.
    """
    kinds = list(about["horizons"][0]["correlation"]) if about["horizons"] else []
    titles = ["steps", "rows", "error", "still", "reward", "nll", "90 %", *kinds]
    cells = [
        [
            str(row["steps"]),
            f"{row['rows']:,}",
            *(f"{row[name]:.2g}" for name in ("error", "still", "reward_error")),
            f"{row['nll']:.3g}",
            f"{100 * row['coverage']:.0f} %",
            *(f"{row['correlation'][kind]:.2f}" for kind in kinds),
        ]
        for row in about["horizons"]
    ]
    return [titles, *cells], _remarks(about)


def _remarks(about: Mapping[str, Any]) -> list[str]:
    said = [
        f"Judged on {about['judged_on']}.",
        "error, still: squared error by variance, of the model and of nothing changing; reward: of "
        "the last step; 90 %: how often the range of 19 draws holds what came; then how far each "
        "disagreement goes with the error (rank correlation).",
    ]
    chosen = about["uncertainty"]
    weak = [
        row["steps"]
        for row in about["horizons"]
        if row["correlation"].get(chosen, 1.0) < LEAST_CORRELATION
    ]
    if weak:
        said.append(
            f"{chosen} goes with the error by less than {LEAST_CORRELATION} after {weak[0]} steps: "
            "a penalty on it is mostly noise there. Take another uncertainty, or fewer steps"
        )
    worse = [row["steps"] for row in about["horizons"] if row["error"] > row["still"]]
    if worse:
        said.append(
            f"After {worse[0]} steps saying that nothing changes is better than this model: "
            "imagine fewer, or fit it to more"
        )
    return said
