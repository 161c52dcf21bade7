"""What ``hindsight export`` prints of a file that it wrote or verified."""

import math
import shlex
from collections.abc import Mapping
from typing import Any

from hindsight_rl.export.providers import CPU
from hindsight_rl.export.web.ort import COMMAND, PLACE, TRIED


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
            f"{'opset':<12}{report['opset']}, checked with onnxruntime {report['onnxruntime']}"
            f"{_providers(report)}",
            f"{'parity':<12}{found}",
            f"{'':<12}{parity['rows']} probe rows, batches of {batches}",
            *further,
            f"{'hash':<12}{report['model_hash']}",
        ]
    )


def _providers(report: Mapping[str, Any]) -> str:
    """Return what ran the graph, where it was not the processor alone."""
    used = report.get("providers", [CPU])
    return "" if used == [CPU] else f" by {', '.join(used)}"


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


def format_web(report: Mapping[str, Any]) -> str:
    """Return the report of a page that was written in aligned lines.

    Args:
        report: What ``write_web`` returned.

    Returns:
        Lines without a final newline.
    """
    lines = [
        f"{'wrote':<12}{report['path']} ({report['learner']}, {report['bytes']:,} bytes in "
        f"{report['files']} files)",
        *format_report(report, "").splitlines()[1:],
    ]
    if report["ort"] is None:
        lines.append(
            f"{'runtime':<12}missing: '{COMMAND}', and again with --overwrite --ort {PLACE}"
        )
    else:
        note = "" if report["ort"] == TRIED else f", and tests ran {TRIED}"
        lines.append(f"{'runtime':<12}onnxruntime-web {report['ort']}{note}")
    place = shlex.quote(report["path"])
    lines.append(f"{'look':<12}python3 -m http.server 8000 --bind 127.0.0.1 --directory {place}")
    return "\n".join(lines)


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
