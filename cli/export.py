"""``hindsight export``: a checkpoint becomes one ONNX file, C or a page; files are verified."""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hindsight_rl.cli.errors import add_providers, command_parser, run
from hindsight_rl.cli.export_report import format_c, format_report, format_web
from hindsight_rl.export.contract import PRECISIONS
from hindsight_rl.export.modelfile import read_model
from hindsight_rl.export.providers import from_words
from hindsight_rl.export.verify import verify_file
from hindsight_rl.export.web.ort import COMMAND, PLACE
from hindsight_rl.export.web.write import write_web
from hindsight_rl.importing import importing
from hindsight_rl.plugins import import_named
from hindsight_rl.ports import LearnerView

_EXAMPLES = """\
examples:
  hindsight export --run runs/iql-001 --output policy.onnx
  hindsight export --run runs/flow_bc-001 --output policy.onnx --steps 4
  hindsight export --run runs/sac-001 --output collects.onnx --drawn
  hindsight export --ckpt_path mine.ckpt --output policy.onnx --import my_learners
  hindsight export --verify policy.onnx
  hindsight export --verify policy.onnx --providers CUDAExecutionProvider
  hindsight export --run runs/iql-001 --target c --output policy.c
  hindsight export policy.onnx --target c --output policy.c
  hindsight export policy.onnx --target web --output page --ort node_modules/onnxruntime-web/dist

Nothing is written unless onnxruntime answers the checkpoint's probe rows as PyTorch does.
--verify repeats that from the file alone, and needs no PyTorch. C is written once its self test
on the same rows has passed, where this machine has a C compiler. A page for browsers is a folder
that needs a web server for files, and nothing else."""


_MAKING = (
    *("opset", "tolerance", "rate_limit", "steps", "drawn", "import", "seed_index", "robot"),
    *("precision", "budget"),
)
"""Options of an export that a finished file would ignore."""
_PAGE = ("ort", "overwrite")
_OUTPUTS = {"onnx": "policy.onnx", "c": "policy.c", "web": "page"}
"""What each target may be written to, as an example."""


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
            "file with --target c or web"
        )
    if given.verify is not None:
        ignored = ("output", *_MAKING, "target", *_PAGE)
        _ignored(parser, given, "--verify only reads", ignored)
        providers = None if given.providers is None else from_words(given.providers)
        report = verify_file(given.verify, providers=providers)
        _show(report if given.json else format_report(report, "verified"))
        return 0
    _ignored(parser, given, "what is written is checked on the processor", ("providers",))
    _check(parser, given)
    if given.target in ("c", "web"):
        return _export_further(given)
    report = _export(given, given.output)
    _show(report if given.json else format_report(report, "wrote"))
    return 0


def _check(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Stop where what is to be written is not clear."""
    target = given.target or "onnx"
    if given.output is None:
        kind = "folder" if target == "web" else "file"
        parser.error(f"--output is missing: name the {kind} to write, such as {_OUTPUTS[target]}")
    if given.budget is not None and given.precision is None:
        parser.error("--budget is what --precision may cost: give it too, or leave out --budget")
    if target == "c" and given.precision is not None:
        parser.error("C is written in float32: leave out --precision")
    if target != "web":
        _ignored(parser, given, "these are of --target web", _PAGE)
    if given.policy is not None:
        if target == "onnx":
            parser.error(f"{given.policy} is exported already: --target c writes it as C")
        _ignored(parser, given, f"{given.policy} is exported already", _MAKING)


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


def _export_further(given: argparse.Namespace) -> int:
    """Write a checkpoint, or a file exported before, as what its ONNX file is made into."""
    if given.policy is not None:
        return _written(given, read_model(given.policy), str(given.policy))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / given.output.with_suffix(".onnx").name
        _export(given, path)
        return _written(given, read_model(path), str(given.ckpt_path or given.run))


def _written(given: argparse.Namespace, data: bytes, path: str) -> int:
    """Write the bytes of a policy file as C or as a page; ``path`` names where they came from."""
    if given.target == "web":
        report = write_web(data, path, given.output, given.ort, overwrite=bool(given.overwrite))
        text = format_web(report)
    else:
        # onnx is behind this, and --verify must run where it is not installed.
        from hindsight_rl.export.c.write import write_c

        report = write_c(data, path, given.output)
        text = format_c(report)
    _show(report if given.json else text)
    return 0


def _export(given: argparse.Namespace, output: Path) -> dict[str, Any]:
    """Write the ONNX file that the command line asks for and return the report."""
    import_named(getattr(given, "import") or ())
    # torch is behind these, and --verify must run where it is not installed.
    with importing():
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


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "export",
        "Write a checkpoint as one ONNX file, as C or as a page, or verify such a file.",
        _EXAMPLES,
    )
    parser.add_argument(
        "policy",
        nargs="?",
        type=Path,
        metavar="ONNX",
        help="a file exported before, for --target c or web",
    )
    parser.add_argument("--ckpt_path", type=Path, metavar="CKPT", help="checkpoint to export")
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", help="its best checkpoint, or its newest one"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write, or folder of a page"
    )
    parser.add_argument(
        "--target",
        choices=tuple(_OUTPUTS),
        help="what is written: one ONNX file (the default), C99 without dependencies, a .c and its "
        ".h, or a folder with a page that runs the file in a browser",
    )
    parser.add_argument(
        "--ort",
        type=Path,
        metavar="FOLDER",
        help=f"of a page: onnxruntime-web, {PLACE} after '{COMMAND}'",
    )
    parser.add_argument(
        "--overwrite", action="store_const", const=True, help="replace a page that lies there"
    )
    _add_making(parser)
    parser.add_argument("--verify", type=Path, metavar="ONNX", help="check this file instead")
    add_providers(parser, "--verify with")
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
