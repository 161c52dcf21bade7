"""``hindsight adapt``: a policy of many tasks becomes that of one, by a few episodes of it."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hindsight_rl.cli.errors import command_parser, parse, run
from hindsight_rl.importing import importing

if TYPE_CHECKING:
    from hindsight_rl.logs.log import Log
    from hindsight_rl.training.learner import Learner

_EXAMPLES = """\
examples:
  hindsight adapt --run runs/maml_bc-001 --data.source few.npz --output robot7.onnx
  hindsight adapt --run runs/maml_bc-001 --steps 5 --data.source few.npz --output robot7.onnx
  hindsight adapt --run runs/hipi_bc-001 --data.source few.npz --output task.onnx \\
    --config hipi_bc.yaml --reference log.npz

All episodes of the log are of one task. MAMLBC takes its inner steps on their rows. For a policy
that takes the task as an input, inverse RL says which task they are about: --config names its
rewards (the first InverseRL among its relabelers, with unit episode), and --reference the log of
many tasks that it compares them by. That task is what the file does unless it is given another."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight adapt``.

    Args:
        argv: Words after ``adapt``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 written, 2 not.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    given = parse(parser, argv)
    if (given.ckpt_path is None) == (given.run is None):
        parser.error("give either --ckpt_path or --run")
    # torch, behind these, would make `--help` slow.
    with importing():
        from hindsight_rl.cli.export_report import format_report
        from hindsight_rl.cli.runs import chosen_checkpoint
        from hindsight_rl.export.onnx import export_policy
        from hindsight_rl.logs.reading import read_log
        from hindsight_rl.training.checkpoints.load import load_learner

    path = given.ckpt_path or chosen_checkpoint(given.run)
    learner = load_learner(path, seed_index=given.seed_index or 0)
    log = read_log(given.source, given.columns)
    _check_log(str(path), learner, log)
    learner, said = _adapted(given, learner, log)
    learner.hparams["adapted_to"] = {"hash": log.hash(), "rows": len(log)} | said
    report = export_policy(learner, given.output)
    about = {"episodes": log.episodes, "rows": len(log)} | said
    if given.json:
        sys.stdout.write(f"{json.dumps(report | {'adapted': about}, indent=1)}\n")
        return 0
    told = ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in about.items())
    sys.stdout.write(f"{'adapted':<12}{told}\n{format_report(report, 'wrote')}\n")
    return 0


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(f'{number:.4g}' for number in value)}]"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"


def _check_log(name: str, learner: "Learner", log: "Log") -> None:
    """Raise on a log that is not of this robot, or measured from another zero."""
    from hindsight_rl.datamodules.offline import OfflineDataModule
    from hindsight_rl.training.shown import check_fits

    spec = OfflineDataModule(log).spec
    check_fits(name, learner.spec, spec, "Adapt")
    for entry, own in learner.spec.observation.items():
        here, there = (getattr(each, "offset", None) for each in (own, spec.observation[entry]))
        if here != there:
            raise ValueError(
                f"{log.sources[0].name}: from '{entry}' {there or 'nothing'} was subtracted, and "
                f"the policy was fitted with {here or 'nothing'}: set offset of the column map so"
            )


def _adapted(
    given: argparse.Namespace, learner: "Learner", log: "Log"
) -> tuple["Learner", dict[str, Any]]:
    """Return the learner of the task that a log is of, and what is said of it."""
    from hindsight_rl.datamodules.shots import support_of
    from hindsight_rl.ports import Adapts

    name = type(learner).__name__
    if isinstance(learner, Adapts):
        if given.config or given.reference:
            raise ValueError(f"{name} adapts by the rows alone: leave out --config and --reference")
        if given.steps is not None:
            _set_steps(learner, given.steps)
        return learner.adapted(support_of(log, learner.in_keys)), {}
    if given.steps is not None:
        raise ValueError(f"{name} takes no inner steps: leave out --steps")
    if learner.spec.task is None:
        raise ValueError(
            f"{name} does not adapt, and takes no task that could be inferred: fit MAMLBC, or a "
            "policy that takes a task (hipi_bc, say)"
        )
    if not (given.config and given.reference):
        raise ValueError(
            f"{name} takes a task, and inverse RL finds which: give --config FILE with InverseRL "
            "among its relabelers, and --reference LOG, a log of many tasks"
        )
    return _of_inferred_task(given, learner, log)


def _set_steps(learner: Any, steps: int) -> None:
    if not hasattr(learner, "inner_steps"):
        raise ValueError(f"{type(learner).__name__} takes no inner steps: leave out --steps")
    if steps < 1:
        raise ValueError(f"--steps is {steps}, it must be at least 1")
    learner.inner_steps = steps


def _of_inferred_task(
    given: argparse.Namespace, learner: "Learner", log: "Log"
) -> tuple["Learner", dict[str, Any]]:
    """Return a learner whose task is that of a log unless it is given another."""
    from hindsight_rl.cli.relabel import build, read_settings
    from hindsight_rl.logs.reading import read_log
    from hindsight_rl.relabel.inferred_task import inferred_task
    from hindsight_rl.relabel.inverse_trajectory import InverseRL

    settings = read_settings(given.config)
    relabelers, _ = build(settings.relabel, given.config)
    rule: InverseRL | None = next((r for r in relabelers if isinstance(r, InverseRL)), None)
    if rule is None:
        raise ValueError(
            f"{given.config}: none of its relabelers is InverseRL, which names the tasks and their "
            "rewards: add one"
        )
    found = inferred_task(rule, read_log(given.reference, settings.columns), log)
    task, taken = learner.spec.task, list(found.task.shape)
    if task is None or taken != list(task.shape):
        raise ValueError(
            f"{given.config}: a task of its InverseRL has shape {taken}, and the policy takes "
            f"{None if task is None else list(task.shape)}: name the family it was fitted with"
        )
    numbers = tuple(found.task.tolist())
    learner.spec = replace(learner.spec, task=replace(task, default=numbers))
    said = {"task": list(numbers), "probability": float(found.probability.max())}
    return learner, said | {"tasks_left": found.perplexity}


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "adapt", "Adapt a policy to a task by a few episodes of it, and export it.", _EXAMPLES
    )
    add: Any = parser.add_argument
    add("--ckpt_path", type=Path, metavar="CKPT", help="checkpoint to adapt")
    add("--run", type=Path, metavar="FOLDER", help="its best checkpoint, or its newest one")
    add("--data.source", dest="source", required=True, metavar="LOG", help="episodes of one task")
    add(
        "--data.columns",
        dest="columns",
        metavar="MAP",
        help="column map: a YAML file, the name of a packaged one, or '{observation: obs}'",
    )
    add("--output", required=True, type=Path, metavar="FILE", help="ONNX file to write")
    add("--steps", type=int, metavar="N", help="inner steps; default: those of the fit")
    add("-c", "--config", metavar="FILE", help="of a policy that takes a task: names the tasks")
    add("--reference", metavar="LOG", help="likewise: a log of many tasks to compare by")
    add(
        "--seed-index",
        "--seed_index",
        type=int,
        metavar="N",
        help="which of the seeds trained at once; default 0",
    )
    add("--json", action="store_true", help="print one JSON object")
    return parser
