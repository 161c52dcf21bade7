"""Kills fits at random points, resumes them, and compares how they end with a fit left alone.

    python benchmarks/kill.py [--points 20] [--ranks 1 2] [--seed 0]

Every fit is ``hindsight fit`` in processes of its own, forked from this one, which has imported
everything once and computes nothing. All ranks get SIGKILL: at a random time, after a random
update, or at a random place of writing a checkpoint (half written, written but not renamed, renamed
but the old one not removed). ``hindsight fit --resume`` then goes on, for half of the points with
another K, and may be killed once more.

Two runs are identical if they leave the same checkpoints, and these hold the same bits: weights,
targets, optimiser, columns of sweeps, best score, waiting to stop, counters; and if what they
logged is the same: evaluations and validations always, training terms where K is the same.
"""

import argparse
import csv
import os
import random
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from hindsight_rl.cli import lightning
from hindsight_rl.logs.log import Log
from hindsight_rl.training.checkpoints.callbacks import EVALUATION, VALIDATION, Checkpoints
from hindsight_rl.training.checkpoints.file import content_hash, read_checkpoint

PLACES = ("time", "update", "half written", "not renamed", "renamed")
SMALL = [
    *("--model.init_args.network.hidden", "[8]", "--model.init_args.compile", "off"),
    *("--model.init_args.learning_rates.actor", "0.01"),
    *(
        "--model.init_args.evaluation.task",
        "[0.0,0.0]",
        "--model.init_args.evaluation.episodes",
        "2",
    ),
    *("--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "10"),
    *("--trainer.enable_progress_bar", "false", "--trainer.val_check_interval", "30"),
    *("--data.batch_size", "8", "--data.updates_per_step", "8", "--data.validation", "0.3"),
]
CASES: dict[str, list[str]] = {
    # Columns of a sweep, a decaying rate, the best of the evaluations, stopping by a validation.
    "AWR": [
        *("--config", "awr", "--data.source", "cart", "--trainer.max_steps", "400"),
        *("--model.init_args.sweep_every", "40", "--model.init_args.decay.actor", "300"),
        *("--env", "CartPole-v1", "--model.init_args.evaluation.every", "30"),
        *("--checkpoint_every", "20"),
        *("--trainer.callbacks+", "StopEarly", "--trainer.callbacks.monitor"),
        *("validation/action_error", "--trainer.callbacks.mode", "min"),
        *("--trainer.callbacks.patience", "4"),
    ],
    # Relabeled goals, target networks, clipping; stopping by an evaluation.
    "IQL + FutureGoal": [
        *("--config", "iql", "--data.source", "cart", "--trainer.max_steps", "400"),
        *("--data.relabel+", "FutureGoal", "--data.relabel.fraction", "0.5"),
        *("--data.relabel.offset", "geometric", "--model.init_args.clip_norm", "1.0"),
        *("--env", "CartPole-v1", "--model.init_args.evaluation.every", "25"),
        *("--checkpoint_every", "15", "--trainer.callbacks+", "StopEarly"),
        *("--trainer.callbacks.monitor", "eval/return", "--trainer.callbacks.mode", "max"),
        *("--trainer.callbacks.patience", "6"),
    ],
}


class Kill(NamedTuple):
    """Where all ranks are killed: after so many seconds of training, updates, or files."""

    place: str
    number: float

    def __str__(self) -> str:
        if self.place == "time":
            return f"after {self.number:.2f} s"
        if self.place == "update":
            return f"after update {self.number:.0f}"
        return f"file {self.number:.0f} {self.place}"


# ------------------------------------------------------------------ processes


def start(words: list[str], folder: Path, ranks: int, kill: Kill | None = None) -> list[int]:
    """Start a fit in a process group of its own, and return its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    several = ["--trainer.devices", str(ranks), "--trainer.strategy", "ddp"] if ranks > 1 else []
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    meet |= {"TORCHELASTIC_RUN_ID": "kill", "LOCAL_WORLD_SIZE": str(ranks), "GROUP_RANK": "0"}
    processes: list[int] = []
    for rank in range(ranks):
        process = os.fork()
        if process == 0:
            if ranks > 1:
                os.environ.update(meet, RANK=str(rank), LOCAL_RANK=str(rank))
            rank_zero_only.rank = rank
            _child([*words, *several], folder, processes[0] if processes else 0, kill)
        processes.append(process)
        os.setpgid(process, processes[0])
    return processes


def _child(words: list[str], folder: Path, group: int, kill: Kill | None) -> None:
    """Run the command in this process, which then ends; never returns."""
    code = 1
    try:
        os.setpgid(0, group)
        os.chdir(folder)
        said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        if kill is not None:
            _arm(kill)
        code = lightning.main(["fit", *words])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _arm(kill: Kill) -> None:
    """Have this process kill its group at a place that only the process itself can see."""
    files = 0

    def this_file() -> bool:
        nonlocal files
        files += 1
        return files == kill.number

    def halved(handle: int) -> bool:
        if not stat.S_ISREG(os.fstat(handle).st_mode) or not this_file():
            return False
        os.ftruncate(handle, os.fstat(handle).st_size // 2)
        return True

    def reached(_: Any, trainer: Any, *__: Any) -> bool:
        return bool(trainer.global_step >= kill.number)

    if kill.place == "update":
        _kill_at(Checkpoints, "on_train_batch_end", reached)
    elif kill.place == "half written":
        _kill_at(os, "fsync", halved)
    else:
        _kill_at(os, "replace", lambda *_: this_file(), after=kill.place == "renamed")


def _kill_at(owner: Any, name: str, due: Callable[..., bool], *, after: bool = False) -> None:
    """Kill the group before, or after, the first call of a function that is due."""
    plain = getattr(owner, name)

    def guarded(*given: Any, **named: Any) -> Any:
        now = due(*given)
        done = None if now and not after else plain(*given, **named)
        if now:
            os.killpg(0, signal.SIGKILL)
        return done

    setattr(owner, name, guarded)


def over(process: int) -> bool:
    """Return whether a process has ended, and leave its exit code where it is."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def codes(processes: list[int]) -> list[int]:
    """Wait for processes and return their exit codes, minus the signal for those killed."""
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def killed(words: list[str], folder: Path, ranks: int, kill: Kill) -> bool:
    """Run a fit, and return whether it was killed; it may have ended before."""
    sign = folder / "run" / "config.yaml"
    seen = sign.stat().st_mtime_ns if sign.exists() else 0
    processes = start(words, folder, ranks, None if kill.place == "time" else kill)
    if kill.place == "time":
        while not over(processes[0]):
            if sign.exists() and sign.stat().st_mtime_ns != seen:  # training has started
                time.sleep(kill.number)
                break
            time.sleep(0.002)
        os.killpg(processes[0], signal.SIGKILL)
    ends = codes(processes)
    if all(end == 0 for end in ends):
        return False
    if any(end != -signal.SIGKILL for end in ends):
        raise RuntimeError(f"exit codes {ends}\n{(folder / 'said').read_text()}")
    return True


def finish(words: list[str], folder: Path, ranks: int) -> None:
    """Run a fit to its end."""
    ends = codes(start(words, folder, ranks))
    if any(ends):
        raise RuntimeError(f"exit codes {ends}\n{(folder / 'said').read_text()}")


# ------------------------------------------------------------------ what is compared


def differences(one: Any, two: Any, place: str = "") -> list[str]:
    """Return where two nested structures differ, tensors by their bits."""
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        same = one.dtype == two.dtype and one.shape == two.shape
        return [] if same and content_hash({"": one}) == content_hash({"": two}) else [place]
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [d for key in one for d in differences(one[key], two[key], f"{place}.{key}")]
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [d for number, (a, b) in pairs for d in differences(a, b, f"{place}[{number}]")]
    return [] if one == two else [place]


def logged(run: Path, *, terms: bool) -> dict[tuple[str, str], str]:
    """Return what was logged by update and name; training terms are means over K updates."""
    values: dict[tuple[str, str], str] = {}
    found = run.glob("metrics/version_*/metrics.csv")
    for path in sorted(found, key=lambda path: int(path.parent.name.removeprefix("version_"))):
        for row in csv.DictReader(path.open()):
            for name, value in row.items():
                if value and (terms or name.startswith((EVALUATION, VALIDATION))):
                    values[row["step"], name] = value
    return values


def compare(one: Path, two: Path, *, same_k: bool) -> list[str]:
    """Return in what two runs differ."""
    names = [{path.name for path in (run / "checkpoints").iterdir()} for run in (one, two)]
    if names[0] != names[1]:
        return [f"checkpoints {sorted(names[0])} and {sorted(names[1])}"]
    found: list[str] = []
    for name in sorted(names[0]):
        payloads = [read_checkpoint(run / "checkpoints" / name) for run in (one, two)]
        for payload in payloads:  # Lightning's counts of chunks and epochs have no meaning here
            del payload["loops"], payload["epoch"]
        found += differences(*payloads, name)
    lines = [logged(run, terms=same_k) for run in (one, two)]
    return found + [
        f"logged {name} at {step}"
        for step, name in sorted(lines[0].keys() | lines[1].keys())
        if lines[0].get((step, name)) != lines[1].get((step, name))
    ]


# ------------------------------------------------------------------ points


def reference(case: str, folder: Path, ranks: int) -> float:
    """Make the fit that is left alone, and return the seconds it trains."""
    folder.mkdir()
    finish([*CASES[case], *SMALL, "--run", "run"], folder, ranks)
    run = folder / "run"
    began = (run / "config.yaml").stat().st_mtime
    return (run / "checkpoints" / "last.ckpt").stat().st_mtime - began


def draw(choose: random.Random, seconds: float) -> Kill:
    """Return where to kill."""
    place = choose.choice(PLACES)
    if place == "time":
        return Kill(place, choose.uniform(0, seconds))
    return Kill(place, choose.randint(1, 300 if place == "update" else 20))


class Point(NamedTuple):
    """What was done to a run, and in what it differs from one that was left alone."""

    done: str
    differs: list[str]


def point(case: str, folder: Path, ranks: int, seconds: float, choose: random.Random) -> Point:
    """Kill a fit once or twice, and go on to the end."""
    words, done = [*CASES[case], *SMALL, "--run", "run"], []
    while not done:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        kill = draw(choose, seconds)
        if killed(words, folder, ranks, kill):
            done.append(str(kill))
    size = choose.choice([8, 8, 3, 20])
    words += ["--data.updates_per_step", str(size)]
    if (folder / "run" / "config.yaml").exists():
        words.append("--resume")
    if choose.random() < 0.5 and killed(words, folder, ranks, again := draw(choose, seconds)):
        done.append(str(again))
    if "--resume" not in words:
        words += ["--resume"] if (folder / "run" / "config.yaml").exists() else []
    finish(words, folder, ranks)
    done.append("" if size == 8 else f"K {size}")
    left = folder.parent / f"{case} {ranks}" / "run"
    return Point(", ".join(filter(None, done)), compare(left, folder / "run", same_k=size == 8))


def make_log(folder: Path) -> None:
    """Write episodes of noise in CartPole's shapes, with goals."""
    draws = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 30, (16,), generator=draws)
    rows, last = int(lengths.sum()), lengths.cumsum(0) - 1
    state = 0.2 * torch.randn(rows + 1, 4, generator=draws)
    end = torch.zeros(rows, dtype=torch.bool)
    end[last] = True
    columns: dict[Any, torch.Tensor] = {
        "observation": state[:-1],
        # Half of it follows the pole: something is learned, and evaluations differ.
        "action": torch.where(
            torch.rand(rows, generator=draws) < 0.5,
            (state[:-1, 2] + state[:-1, 3] > 0).long(),
            torch.randint(2, (rows,), generator=draws),
        ),
        "task": torch.randn(len(lengths), 2, generator=draws).repeat_interleave(lengths, 0),
        "achieved_goal": state[:-1, :2],
        "episode": torch.arange(len(lengths)).repeat_interleave(lengths),
        ("next", "observation"): state[1:],
        ("next", "achieved_goal"): state[1:, :2],
        ("next", "reward"): torch.randn(rows, generator=draws),
        ("next", "terminated"): end,
        ("next", "truncated"): torch.zeros(rows, dtype=torch.bool),
    }
    Log.from_columns(columns, {"source": "noise", "discrete_actions": 2}).save(folder)


def main() -> int:
    """Run the points, print the table, and return 1 if one ended differently."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)  # of this process and those it forks: no thread outlives a fork
    same = True
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        make_log(place / "cart")
        for words in CASES.values():
            words[words.index("cart")] = str(place / "cart")
        for ranks in given.ranks:
            choose = random.Random(f"{given.seed} {ranks}")
            seconds = {case: reference(case, place / f"{case} {ranks}", ranks) for case in CASES}
            identical = 0
            for number in range(given.points):
                case = list(CASES)[number % len(CASES)]
                folder = place / f"{ranks} {number}"
                found = point(case, folder, ranks, seconds[case], choose)
                said = "identical" if not found.differs else f"differs: {found.differs[:5]}"
                print(f"{ranks} rank(s)  {case:<17} {said:<10} {found.done}", flush=True)
                identical += not found.differs
                shutil.rmtree(folder)
            print(f"{ranks} rank(s): {identical} of {given.points} identical", flush=True)
            same = same and identical == given.points
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
