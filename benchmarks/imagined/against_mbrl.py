"""Our ensemble of the dynamics beside that of mbrl-lib: same rows, sizes, rate and updates.

    python benchmarks/imagined/against_mbrl.py [--seeds 5]

Random torques on a pendulum, 5,000 rows; 20 further episodes are held out. Five members of 2 x 64
units, 3,000 updates of 256 rows. Both choose three elites on held-out rows. The error is that of
the mean of all members' means after one step, over the variance of the change, for the
observation and for the reward. mbrl-lib 0.2.0 and what it needs of old Gym are put into build/mbrl,
beside this environment and not into it. Writes build/imagined_mbrl.json and a table of
docs/learners/dynamics.md.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from lightning.pytorch import seed_everything
from worlds import PENDULUM, SMALL, adam, kept, row, written

from hindsight_rl import Dynamics, Log, OfflineDataModule
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.keys import ACTION, EPISODE, NEXT_OBSERVATION, OBSERVATION, REWARD

# ``worlds`` puts the folder above on the path.
from results import replace_part  # isort: skip
from shared import BUILD, FIVE_SEEDS, ROOT, quiet, silent_trainer, table  # isort: skip

ROWS, HELD_OUT, STEPS, UPDATES, BATCH, MEMBERS = 5_000, 20, 200, 3_000, 256, 5
HOME = BUILD / "mbrl"
PACKAGES = ("mbrl==0.2.0", "hydra-core==1.3.2", "gym==0.26.2", "gym_notices", "termcolor", "tqdm")
PARSER = "antlr4-python3-runtime==4.9.3"
COLUMNS = (OBSERVATION, ACTION, NEXT_OBSERVATION, REWARD)


def installed() -> None:
    """Put mbrl-lib into a folder of its own, and on the path."""
    if not (HOME / "made").exists():
        words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(HOME)]
        subprocess.run([*words, *PACKAGES, PARSER], check=True)
        (HOME / "made").touch()
    sys.path.append(str(HOME))


def torques(first: int, episodes: int, seed: int) -> Log:
    """Return episodes of uniformly random torques."""
    collector = Collector(PENDULUM, seed=60_000 + seed)
    found = collector.collect(None, first, episodes, None)
    collector.close()
    number = torch.arange(episodes).repeat_interleave(found.lengths)
    return Log.from_columns(found.columns | {EPISODE: number}, collector.info)


def ours(log: Log, seed: int) -> Any:
    """Return the means of our members for steps."""
    seed_everything(seed, verbose=False)
    data = OfflineDataModule(log, batch_size=BATCH, seed=seed, validation=0.1, updates_per_step=50)
    model = Dynamics(
        data.spec,
        network=SMALL,
        members=MEMBERS,
        elites=3,
        termination="none",
        optimizer=adam,
        compile="off",
    )
    silent_trainer(UPDATES, val_check_interval=UPDATES, num_sanity_val_steps=0).fit(model, data)
    model.eval()

    def said(observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        scaled = model.ensemble(observation, action).mean.mean(0)
        return model.outcomes.mean + model.outcomes.std * scaled

    return said


def theirs(log: Log, seed: int) -> Any:
    """Return the means of mbrl-lib's members for steps."""
    from mbrl.models import GaussianMLP, ModelTrainer, OneDTransitionRewardModel
    from mbrl.util import ReplayBuffer
    from mbrl.util.common import get_basic_buffer_iterators

    seed_everything(seed, verbose=False)
    width, pushes = log.column(OBSERVATION).shape[1], log.column(ACTION).shape[1]
    swish = {"_target_": "torch.nn.SiLU"}
    sizes = {"num_layers": 2, "ensemble_size": MEMBERS, "hid_size": 64, "activation_fn_cfg": swish}
    net = GaussianMLP(width + pushes, width + 1, "cpu", learn_logvar_bounds=True, **sizes)
    model = OneDTransitionRewardModel(net, normalize=True, num_elites=3)
    buffer = ReplayBuffer(len(log), (width,), (pushes,), rng=np.random.default_rng(seed))
    ended = np.zeros(len(log), bool)
    buffer.add_batch(*(log.column(key).numpy() for key in COLUMNS), ended, ended)
    model.update_normalizer(buffer.get_all())
    rows, held_out = get_basic_buffer_iterators(buffer, BATCH, 0.1, MEMBERS)
    epochs = round(UPDATES / len(rows))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer = ModelTrainer(model, optim_lr=1e-3, weight_decay=5e-5)
        trainer.train(rows, held_out, num_epochs=epochs, patience=epochs, silent=True)

    def said(observation: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        given = model.input_normalizer.normalize(torch.cat([observation, action], -1)).float()
        found: torch.Tensor = net(given.expand(MEMBERS, *given.shape), use_propagation=False)[0]
        return found.mean(0)

    return said


def measured(fit: Any, seed: int) -> dict[str, float]:
    """Return the errors of a model on held-out episodes, and the seconds of its fit."""
    log, test = torques(0, ROWS // STEPS, seed), torques(1_000, HELD_OUT, seed)
    begun = time.process_time()
    model = fit(log, seed)
    seconds = time.process_time() - begun
    observation, action, following, reward = (test.column(key) for key in COLUMNS)
    came = torch.cat([following - observation, reward.unsqueeze(-1)], -1)
    with torch.no_grad():
        off = (model(observation, action) - came).square().mean(0) / came.var(0)
    error, rewarded = float(off[:-1].mean()), float(off[-1])
    return {"error": error, "reward": rewarded, "fit": seconds}


LIBRARIES = {"Dynamics": ours, "mbrl-lib 0.2.0, GaussianMLP": theirs}


def main() -> None:
    """Fit both and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    quiet()
    installed()
    seeds, rows, lines = FIVE_SEEDS[: options.seeds], [], []
    for name, fit in LIBRARIES.items():
        found = [kept("mbrl", name, s, lambda: measured(fit, s)) for s in seeds]  # noqa: B023
        cells = [name]
        for what in ("error", "reward", "fit"):
            values = [each | {"value": each["value"][what]} for each in found]
            rows.append(row(f"{name}: {what}", values, seeds, library=name, what=what))
            form = ".1f" if what == "fit" else ".2e"
            mean, low, high = (format(rows[-1][part], form) for part in ("mean", "low", "high"))
            cells.append(f"{mean} [{low}, {high}]")
        lines.append(cells)
    written("mbrl", rows)
    text = table(["library", "observation", "reward", "s of one core"], lines)
    note = f"Squared error over variance, over {len(seeds)} seeds, Student's 95 % intervals."
    replace_part(ROOT / "docs" / "learners" / "dynamics.md", "mbrl", f"{note}\n\n{text}")


if __name__ == "__main__":
    main()
