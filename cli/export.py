"""``hindsight export``: a checkpoint becomes one ONNX file; or such a file is verified."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hindsight_rl.cli.errors import command_parser, run
from hindsight_rl.export.verify import verify_file

_EXAMPLES = """\
examples:
  hindsight export --ckpt_path runs/iql/best.ckpt --output policy.onnx
  hindsight export --verify policy.onnx

Nothing is written unless onnxruntime answers the checkpoint's probe rows as PyTorch does.
--verify repeats that from the file alone, and needs no PyTorch."""


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
    if (given.verify is None) == (given.ckpt_path is None):
        parser.error("give either --ckpt_path and --output, or --verify")
    if given.verify is not None:
        report = verify_file(given.verify)
    else:
        if given.output is None:
            parser.error("--output is missing: name the file to write, such as policy.onnx")
        # torch is behind these, and --verify must run where it is not installed.
        from hindsight_rl.agents.learner import load_learner
        from hindsight_rl.export.onnx import export_policy

        report = export_policy(
            load_learner(given.ckpt_path),
            given.output,
            opset=given.opset,
            tolerance=given.tolerance,
        )
    done = "wrote" if given.verify is None else "verified"
    shown = json.dumps(report, indent=1) if given.json else format_report(report, done)
    sys.stdout.write(f"{shown}\n")
    return 0


def format_report(report: Mapping[str, Any], done: str) -> str:
    """Return the report of an export or a verification in aligned lines.

    Args:
        report: What ``export_policy`` or ``verify_file`` returned.
        done: What was done to the file, one word.

    Returns:
        Five lines without a final newline.
    """
    parity = report["parity"]
    batches = ", ".join(str(size) for size in parity["batches"])
    if "disagreements" in parity:
        found = (
            f"same choice wherever it is clear ({parity['close']} rows lead by less than "
            f"{parity['margin']:g}); scores differ by {parity['max_score_difference']:.1e} at most"
        )
    else:
        found = (
            f"actions differ by {parity['max_difference']:.1e} of their range at most "
            f"(tolerance {parity['tolerance']:g})"
        )
    return "\n".join(
        [
            f"{done:<12}{report['path']} ({report['learner']}, {report['bytes']:,} bytes)",
            f"{'opset':<12}{report['opset']}, checked with onnxruntime {report['onnxruntime']}",
            f"{'parity':<12}{found}",
            f"{'':<12}{parity['rows']} probe rows, batches of {batches}",
            f"{'hash':<12}{report['model_hash']}",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "export", "Write a checkpoint as one ONNX file, or verify such a file.", _EXAMPLES
    )
    parser.add_argument("--ckpt_path", type=Path, metavar="CKPT", help="checkpoint to export")
    parser.add_argument("--output", type=Path, metavar="ONNX", help="file to write")
    parser.add_argument(
        "--opset", type=int, default=18, metavar="N", help="ONNX operator set, 13 to 23; default 18"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-5,
        metavar="X",
        help="largest difference, as a share of the action range; default 1e-5",
    )
    parser.add_argument("--verify", type=Path, metavar="ONNX", help="check this file instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
