"""``hindsight export``: a checkpoint becomes one ONNX file, or C; such a file is verified."""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hindsight_rl.cli.errors import command_parser, run
from hindsight_rl.export.contract import PRECISIONS
from hindsight_rl.export.modelfile import read_model
from hindsight_rl.export.verify import verify_file
from hindsight_rl.plugins import import_named
from hindsight_rl.ports import LearnerView

_EXAMPLES = """\
examples:
  hindsight export --run runs/iql-001 --output policy.onnx
  hindsight export --run runs/flow_bc-001 --output policy.onnx --steps 4
  hindsight export --run runs/sac-001 --output collects.onnx --drawn
  hindsight export --ckpt_path mine.ckpt --output policy.onnx --import my_learners
  hindsight export --verify policy.onnx
  hindsight export --run runs/iql-001 --target c --output policy.c
  hindsight export policy.onnx --target c --output policy.c

Nothing is written unless onnxruntime answers the checkpoint's probe rows as PyTorch does.
--verify repeats that from the file alone, and needs no PyTorch. C is written once its self test
on the same rows has passed, where this machine has a C compiler."""


_MAKING = (
    *("opset", "tolerance", "rate_limit", "steps", "drawn", "import", "seed_index", "robot"),
    *("precision", "budget"),
)
"""Options of an export that a finished file would ignore."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight export``.

    Args:
        argv: Words after ``export``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 written or verified, 2 not.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    given = parser.parse_args(argv)
    if [given.verify, given.ckpt_path, given.run, given.policy].count(None) != 3:
        parser.error(
            "give either --ckpt_path and --output, or --verify; --run for --ckpt_path, or an ONNX "
            "file with --target c"
        )
    if given.verify is not None:
        _ignored(parser, given, "--verify only reads", ("output", *_MAKING, "target"))
        report = verify_file(given.verify)
    elif given.output is None:
        ending = "policy.c" if given.target == "c" else "policy.onnx"
        parser.error(f"--output is missing: name the file to write, such as {ending}")
    elif given.policy is not None and given.target != "c":
        parser.error(f"{given.policy} is exported already: --target c writes it as C")
    elif given.budget is not None and given.precision is None:
        parser.error("--budget is what --precision may cost: give it too, or leave out --budget")
    elif given.target == "c":
        if given.precision is not None:
            parser.error("C is written in float32: leave out --precision")
        if given.policy is not None:
            _ignored(parser, given, f"{given.policy} is exported already", _MAKING)
        return _export_c(given)
    else:
        report = _export(given, given.output)
    done = "wrote" if given.verify is None else "verified"
    _show(report if given.json else format_report(report, done))
    return 0


def _ignored(
    parser: argparse.ArgumentParser, given: argparse.Namespace, why: str, names: Sequence[str]
) -> None:
    """Stop where an option is given that would change nothing."""
    ignored = [name for name in names if getattr(given, name) is not None]
    if ignored:
        parser.error(f"{why}: leave out --{', --'.join(ignored)}")


def _show(report: Mapping[str, Any] | str) -> None:
    text = report if isinstance(report, str) else json.dumps(report, indent=1)
    sys.stdout.write(f"{text}\n")


def _export_c(given: argparse.Namespace) -> int:
    """Write a checkpoint, or a file exported before, as C."""
    # onnx is behind this, and --verify must run where it is not installed.
    from hindsight_rl.export.c.write import write_c

    if given.policy is not None:
        report = write_c(read_model(given.policy), str(given.policy), given.output)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / given.output.with_suffix(".onnx").name
            _export(given, path)
            report = write_c(read_model(path), str(given.ckpt_path or given.run), given.output)
    _show(report if given.json else format_c(report))
    return 0


def _export(given: argparse.Namespace, output: Path) -> dict[str, Any]:
    """Write the ONNX file that the command line asks for and return the report."""
    import_named(getattr(given, "import") or ())
    # torch is behind these, and --verify must run where it is not installed.
    from hindsight_rl.cli.runs import chosen_checkpoint
    from hindsight_rl.export.onnx import export_policy
    from hindsight_rl.training.checkpoints.load import load_learner

    path = given.ckpt_path or chosen_checkpoint(given.run)
    learner = load_learner(path, seed_index=given.seed_index)
    if learner.seed_states is not None:
        count = learner.seed_states.count
        sys.stderr.write(f"seed 0 of {count} is exported: --seed-index N takes another\n")
    _check_names(learner)
    names = ("opset", "tolerance", "rate_limit", "steps", "drawn", "precision", "budget")
    options = {name: getattr(given, name) for name in names}
    chosen = {name: value for name, value in options.items() if value is not None}
    if given.robot is not None:
        chosen["robot"] = _robot(given.robot)
    return export_policy(learner, output, **chosen)


def _robot(path: Path) -> Any:
    """Return what a YAML file says of a robot."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML ({error})") from error


def _check_names(learner: LearnerView) -> None:
    """Raise on a policy whose inputs are not, by name, what its environment shows.

    An environment that cannot be made here (no simulator) leaves that to 'test' and 'run'.
    """
    from hindsight_rl.envs.interface import Interface, RolloutError, make
    from hindsight_rl.spec import Spec

    asked = learner.evaluation
    name = asked.env
    if name is None:
        return
    try:
        env = make(name, asked.env_kwargs, draw=False)
        interface = Interface(env, name, Spec.of(learner.spec))
        env.close()
    except RolloutError as error:
        sys.stderr.write(f"names of inputs were not compared with the environment's: {error}\n")
        return
    interface.check_names(Spec.of(learner.spec))


def format_report(report: Mapping[str, Any], done: str) -> str:
    """Return the report of an export or a verification in aligned lines.

    Args:
        report: What ``export_policy`` or ``verify_file`` returned.
        done: What was done to the file, one word.

    Returns:
        Five lines without a final newline, and more on precision and noise where there is any.
    """
    parity = report["parity"]
    batches = ", ".join(str(size) for size in parity["batches"])
    allowed = parity.get("budget", parity["tolerance"])
    if parity.get("disagreements"):
        found = f"another choice in {parity['disagreements']} answers (budget {allowed:g} of them)"
    elif "disagreements" in parity:
        found = (
            f"same choice wherever it is clear ({parity['close']} rows lead by less than "
            f"{parity['margin']:g}); scores differ by {parity['max_score_difference']:.1e} at most"
        )
    else:
        found = (
            f"actions differ by {parity['max_difference']:.1e} of their range at most "
            f"({'budget' if 'budget' in parity else 'tolerance'} {allowed:g})"
        )
    further = [f"{'precision':<12}{parity['precision']}"] if "precision" in parity else []
    further += [] if report["noise"] is None else [f"{'noise':<12}{_noise(report)}"]
    if report["distribution"] is not None:
        further.append(f"{'drawn':<12}{_drawn(report)}")
    return "\n".join(
        [
            f"{done:<12}{report['path']} ({report['learner']}, {report['bytes']:,} bytes)",
            f"{'opset':<12}{report['opset']}, checked with onnxruntime {report['onnxruntime']}",
            f"{'parity':<12}{found}",
            f"{'':<12}{parity['rows']} probe rows, batches of {batches}",
            *further,
            f"{'hash':<12}{report['model_hash']}",
        ]
    )


def format_c(report: Mapping[str, Any]) -> str:
    """Return the report of C that was written in aligned lines.

    Args:
        report: What ``write_c`` returned.

    Returns:
        Three lines without a final newline.
    """
    proof = "not compiled here: this machine has no C compiler. Run the self test where it has one"
    if report["self_test"] is not None:
        proof = f"{report['self_test']} ({report['compiler']})"
    return "\n".join(
        [
            f"{'wrote':<12}{report['path']} and {report['header']} ({report['learner']}, "
            f"{report['bytes']:,} bytes)",
            f"{'memory':<12}about {report['memory']:,} bytes of a state, beside weights",
            f"{'self test':<12}{proof}",
        ]
    )


def _noise(report: Mapping[str, Any]) -> str:
    """Return what a policy makes of noise, in words."""
    noise, sampler = report["noise"], report["sampler"]
    numbers = f"{math.prod(noise['shape'])} {noise['distribution']} numbers an answer"
    walk = "" if sampler is None else f", {sampler['steps']} steps ({sampler['kind']})"
    zeros = "may be left out" if noise["zero"] else "needed: zeros would average what is good"
    if report["distribution"] is not None and not noise["zero"]:
        zeros = "needed"
    return f"{numbers}{walk}; {zeros}"


def _drawn(report: Mapping[str, Any]) -> str:
    """Return what actions are drawn from, in words."""
    stated = report["distribution"]
    parts = f" of {stated['components']}" if "components" in stated else ""
    apart = report["parity"]["max_log_prob_difference"]
    return (
        f"actions are drawn, from a stated distribution ({stated['kind']}{parts}); "
        f"log-probabilities differ by {apart:.1e}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "export",
        "Write a checkpoint as one ONNX file or as C, or verify such a file.",
        _EXAMPLES,
    )
    parser.add_argument(
        "policy",
        nargs="?",
        type=Path,
        metavar="ONNX",
        help="a file exported before, for --target c",
    )
    parser.add_argument("--ckpt_path", type=Path, metavar="CKPT", help="checkpoint to export")
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", help="its best checkpoint, or its newest one"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write")
    parser.add_argument(
        "--target",
        choices=("onnx", "c"),
        help="what is written: one ONNX file (the default), or C99 without dependencies, a .c and "
        "its .h",
    )
    _add_making(parser)
    parser.add_argument("--verify", type=Path, metavar="ONNX", help="check this file instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _add_making(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what file is made, those of ``_MAKING``."""
    parser.add_argument(
        "--opset", type=int, metavar="N", help="ONNX operator set, 13 to 23; default 18"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="largest difference, as a share of the action range; default 1e-5, with images 1e-4; "
        "at most 1e-3",
    )
    parser.add_argument(
        "--rate_limit",
        type=float,
        nargs="+",
        metavar="X",
        help="how fast an action may change, units per second: one number, or one per dimension. "
        "The contract carries it, and the loop that sends commands holds it",
    )
    parser.add_argument(
        "--robot",
        type=Path,
        metavar="YAML",
        help="joints in the driver's order, command, gains, pose and limits: the contract carries "
        "them, and OnnxPolicy.check_robot compares names",
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="steps from noise to action of flow and diffusion policies; default: those of the fit",
    )
    parser.add_argument(
        "--drawn",
        action="store_const",
        const=True,
        help="write the policy as it collects: it draws its actions from noise, and states how "
        "likely they are, so that 'hindsight run --record' and 'hindsight judge' know it",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="compute layers in fewer bits, within --budget: files are a half or a quarter of the "
        "size; small networks are no faster",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="X",
        help="largest difference that --precision may cost, as a share of the action range, or of "
        "choices; default 0.01, at most 0.1",
    )
    parser.add_argument(
        "--seed-index",
        "--seed_index",
        type=int,
        metavar="N",
        help="which of the seeds trained at once; default 0",
    )
