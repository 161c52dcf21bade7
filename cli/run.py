"""``hindsight run``: an exported policy in an environment, without PyTorch."""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.cli.errors import add_providers, command_parser, json_object, parse, run
from hindsight_rl.cli.report import format_paired, format_summary
from hindsight_rl.cli.run_log import LogFile as LogFile
from hindsight_rl.envs.rollout import Rollout, lowered, rollout
from hindsight_rl.envs.statistics import paired, summarize
from hindsight_rl.export.paced import PacedPolicy
from hindsight_rl.export.pacing import Pacer
from hindsight_rl.export.probe import probe_of
from hindsight_rl.export.providers import from_words
from hindsight_rl.export.realtime import RealTime, real_time
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.files import write_whole

_EXAMPLES = """\
examples:
  hindsight run policy.onnx --env CartPole-v1 --episodes 20 --seed 0
  hindsight run policy.onnx --env CartPole-v1 --task 500 --json
  hindsight run policy.onnx --env CartPole-v1 --task 500 500 --lower
  hindsight run policy.onnx --env gymnasium_robotics:FetchReach-v4
  hindsight run policy.onnx --env Pendulum-v1 --video pendulum.gif
  hindsight run new.onnx --against old.onnx --env Pendulum-v1 --episodes 50
  hindsight run policy.onnx --env CartPole-v1 --episodes 100 --record played.npz
  hindsight run policy.onnx --env Pendulum-v1 --rate 1000 --real_time --record played.mcap"""

_TIMED_CALLS = 2000


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight run``.

    Args:
        argv: Words after ``run``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 done, 2 the file, the environment or an option is at fault.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    given = parse(_parser(), [_underscored(word) for word in argv])
    policy, other = _policy(given, given.policy), None
    if given.against is not None:
        other = _policy(given, given.against)
    film = None if given.video is None else Film(given.video)
    rate = given.rate or policy.contract["control_rate_hz"]
    keep = None if given.record is None else LogFile(given.record, rate)
    paced = _paced(policy, given)
    if keep is not None and paced is not None:
        keep.stamps = lambda: paced.stamps
    with real_time(RealTime() if given.real_time else None) as denied:
        done = _played(paced or policy, given, film, keep, policy)
    if denied:
        sys.stderr.write(f"not granted: {'; '.join(denied)}\n")
    if film is not None:
        film.write()
    report: dict[str, Any] = {
        "policy": str(given.policy),
        "learner": policy.contract["learner"]["name"],
        **summarize(done),
        "threads": given.threads,
        **act_time(policy, given.task),
    }
    if paced is not None:
        report["loop"] = paced.report()
    if keep is not None:
        report["log"] = keep.written
    if other is not None:
        report["against"] = _comparison(given.against, done, _played(other, given))
    sys.stdout.write(f"{json.dumps(report, indent=1) if given.json else _lines(report, policy)}\n")
    return 0


def _policy(given: argparse.Namespace, path: Path) -> OnnxPolicy:
    providers = None if given.providers is None else from_words(given.providers)
    return OnnxPolicy(
        path, threads=given.threads, deterministic=given.deterministic, providers=providers
    )


def _paced(policy: OnnxPolicy, given: argparse.Namespace) -> PacedPolicy | None:
    """Return the policy at the rate that was asked for."""
    if given.rate is None:
        if given.real_time:
            raise ValueError("--real_time is for a loop at a rate: give --rate")
        return None
    if given.num_envs not in (None, 1):
        raise ValueError(f"--num_envs {given.num_envs}: at a rate one environment is played")
    given.num_envs = 1
    return PacedPolicy(policy, Pacer(given.rate))


def _played(
    policy: OnnxPolicy | PacedPolicy,
    given: argparse.Namespace,
    film: "Film | None" = None,
    keep: LogFile | None = None,
    file: OnnxPolicy | None = None,
) -> Rollout:
    """Return the episodes of a policy, or of a file's at a rate."""
    stated = policy if isinstance(policy, OnnxPolicy) else file
    assert stated is not None
    return rollout(
        policy,
        given.env,
        episodes=given.episodes,
        seed=given.seed,
        task=_task(stated, given.task, given.lower),
        next_task=lowered if given.lower else None,
        env_kwargs=given.env_kwargs,
        num_envs=given.num_envs,
        max_steps=given.max_steps,
        limit_option="--max_steps",
        spec=stated.contract,
        record=film,
        keep=keep,
    )


def _comparison(path: Path, first: Rollout, second: Rollout) -> dict[str, Any]:
    """Return by how much the first policy does better than another in the same episodes."""
    found: dict[str, Any] = {
        "policy": str(path),
        "return": paired(first.returns, second.returns)._asdict(),
    }
    if first.successes is not None and second.successes is not None:
        found["success"] = paired(first.successes, second.successes)._asdict()
    return found


def act_time(policy: OnnxPolicy, task: Sequence[float] | None = None) -> dict[str, float]:
    """Return how long ``act`` takes for one observation, in microseconds: median and p99.

    Args:
        policy: The policy; the observations are its own probe rows.
        task: ``[Z]``, where it has a task; its probe tasks if ``None``.

    Returns:
        ``act_us_median`` and ``act_us_p99``.
    """
    probe = probe_of(policy.contract, policy.signature)
    raw = {given.name: given.raw(probe.inputs[given.name]) for given in policy.signature.given}
    if task is not None and "task" in raw:
        raw["task"][:] = task
    observed = [raw[given.name] for given in policy.signature.observation]
    calls: list[tuple[Any, ...]] = list(zip(*observed, strict=True))
    if policy.signature.entries:
        labels = [given.label for given in policy.signature.observation]
        calls = [(dict(zip(labels, row, strict=True)),) for row in calls]
    if "task" in raw:
        calls = [(*row, given) for row, given in zip(calls, raw["task"], strict=True)]
    policy.reset()
    clock, act = time.perf_counter_ns, policy.act
    ticks = np.empty(_TIMED_CALLS)
    for i in range(-len(calls), _TIMED_CALLS):  # the first round warms the caches up
        values = calls[i % len(calls)]
        start = clock()
        act(*values)
        ticks[i] = clock() - start
    median, late = np.percentile(ticks, [50, 99]) / 1000.0
    return {"act_us_median": float(median), "act_us_p99": float(late)}


class Film:
    """Frames of an episode, for a GIF: call it with each, then ``write``.

    Args:
        path: A file ending in ``.gif``.

    Raises:
        ValueError: The file is of another kind, or pillow is missing.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".gif":
            raise ValueError(f"--video {path}: only GIF files are written. End it in .gif.")
        try:
            # Not among the robot's requirements, and needed for this option only.
            self._image = importlib.import_module("PIL.Image")
        except ImportError as error:
            raise ValueError("--video needs pillow: pip install pillow") from error
        self._path = path
        self._frames: list[Any] = []
        self._rate = 30.0

    def __call__(self, frame: NDArray[np.uint8], rate: float) -> None:
        """Keep one frame ``[H, W, 3]``, reduced to the 256 colours a GIF can hold."""
        self._frames.append(self._image.fromarray(frame).quantize(256))
        self._rate = rate

    def write(self) -> None:
        """Write the file, whole or not at all."""
        # A GIF counts in hundredths of a second, and viewers slow down what claims less than two.
        shown = max(20, round(100.0 / self._rate) * 10)
        first, *others = self._frames
        options = {"save_all": True, "append_images": others, "duration": shown, "loop": 0}
        write_whole(self._path, lambda file: first.save(file, "GIF", **options))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("run", "Run an ONNX file in an environment.", _EXAMPLES)
    parser.add_argument("policy", type=Path, help="file that 'hindsight export' wrote")
    parser.add_argument(
        "--env", required=True, metavar="ID", help="Gymnasium id; module:ID imports a module first"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="play another file in the same episodes, and print by how much the first does better",
    )
    parser.add_argument("--episodes", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument(
        "--seed", type=int, default=0, help="episode i is reset from (seed, i); default 0"
    )
    parser.add_argument(
        "--task",
        type=float,
        nargs="+",
        metavar="X",
        help="numbers of the task; needed if the policy takes a task, unless the environment gives "
        "a goal or the contract a default",
    )
    parser.add_argument(
        "--lower",
        action="store_true",
        help="lower the task as a command is: after every step its first number by the reward, "
        "its second (steps left) by 1; else it is the same at every step",
    )
    parser.add_argument(
        "--env_kwargs", type=json_object, metavar="JSON", help="arguments of the environment"
    )
    parser.add_argument(
        "--max_steps",
        type=int,
        metavar="N",
        help="cut episodes after N steps; default: the environment's limit, or 10,000 where it "
        "has none",
    )
    parser.add_argument(
        "--num_envs", type=int, metavar="N", help="environments in lockstep; default up to 16"
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of onnxruntime; default 1"
    )
    add_providers(parser, "run the graph with")
    _add_pace_and_records(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_pace_and_records(parser: argparse.ArgumentParser) -> None:
    """Add noise, pace, and what is kept of the episodes."""
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="put zeros in the place of noise, for policies that were made for it; else noise is "
        "drawn from the seed",
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="write the episodes as a log: .npz, with its column map beside it (.yaml), or .mcap, "
        "a recording that viewers of robots open; with action_log_prob where the file draws its "
        "actions ('hindsight export --drawn'), or acts by choices and draws nothing",
    )
    parser.add_argument(
        "--rate",
        type=float,
        metavar="HZ",
        help="play in real time, so many steps a second, and print how late they were",
    )
    parser.add_argument(
        "--real_time",
        action="store_true",
        help="with --rate: ask for SCHED_FIFO, locked memory and a short timer slack, and do "
        "without garbage collection; what is not granted is named",
    )
    parser.add_argument("--video", type=Path, metavar="GIF", help="draw the first episode")


def _underscored(word: str) -> str:
    """Return an option with underscores in its name, whichever way it was written."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}"


def _task(
    policy: OnnxPolicy, given: Sequence[float] | None, lower: bool
) -> NDArray[np.float32] | None:
    """Return the task from the command line, checked against the contract."""
    task = policy.contract["task"]
    if task is None and (lower or given is not None):
        raise ValueError(f"--{'lower' if lower else 'task'}: this policy takes no task")
    if given is None and lower:
        given = task["default"]
        if given is None:
            raise ValueError("--lower: give the command that is lowered, --task")
    if given is None:
        return None
    if task["shape"] != [len(given)]:
        raise ValueError(f"--task: {len(given)} numbers given, and the task is {task['shape']}")
    return np.array(given, dtype=np.float32)


def _lines(report: dict[str, Any], policy: OnnxPolicy) -> str:
    """Return the report in aligned lines."""
    rate = policy.contract["control_rate_hz"]
    share = "" if rate is None else f"; a step at {rate:g} Hz has {1e6 / rate:,.0f} us"
    threads = f"{report['threads']} thread{'s' if report['threads'] > 1 else ''}"
    time_taken = f"median {report['act_us_median']:.1f} us, p99 {report['act_us_p99']:.1f} us"
    lines = [
        f"policy      {report['policy']} ({report['learner']})",
        format_summary(report),
        f"act         {time_taken} ({threads}, one row at a time{share})",
    ]
    if "loop" in report:
        lines += _loop_lines(report["loop"])
    if "log" in report:
        lines.append(f"log         {report['log']}")
    if "against" in report:
        lines.append(format_paired(report["against"]))
    return "\n".join(lines)


def _loop_lines(loop: dict[str, Any]) -> list[str]:
    """Return how a rate was kept."""
    late, step, act = (
        " / ".join(f"{loop[name][part]:.0f}" for part in ("p50", "p99", "max")) + " us"
        for name in ("late_us", "step_us", "act_us")
    )
    missed = f"{loop['overran']:,} overran, {loop['skipped']:,} ticks skipped"
    return [
        f"loop        {loop['rate_hz']:g} Hz, {loop['steps']:,} steps: {missed}",
        f"            median / p99 / max: late {late}; act {act}; act and environment {step}",
    ]
