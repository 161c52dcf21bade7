"""The report of a rollout in words."""

from collections.abc import Mapping, Sequence
from typing import Any


def format_summary(report: Mapping[str, Any]) -> str:
    """Return the report of :func:`hindsight_rl.envs.statistics.summarize` in aligned lines.

    Args:
        report: The report.

    Returns:
        A few lines without a final newline.
    """
    spread = report["return_standard_error"]
    error = "" if spread is None else f" +- {spread:.2f} (standard error)"
    low, high = report["return_iqm_low"], report["return_iqm_high"]
    iqm = f"{report['return_iqm']:.2f} [{low:.2f}, {high:.2f}]"
    rows = [
        ("environment", str(report["env"])),
        ("episodes", f"{report['episodes']}, seed {report['seed']}"),
        *_of_seeds(report.get("seeds", ())),
        ("return", f"{report['return']:.2f}{error}"),
        ("IQM", f"{iqm} (95 % bootstrap interval{' over seeds' if 'seeds' in report else ''})"),
        ("length", f"{report['length']:.1f} steps"),
    ]
    if report["success"] is not None:
        low, high = 100 * report["success_low"], 100 * report["success_high"]
        kind = "interval over seeds" if "seeds" in report else "Wilson interval"
        share = f"{100 * report['success']:.1f} % of episodes"
        rows.append(("success", f"{share} [{low:.1f}, {high:.1f}] (95 % {kind})"))
    return "\n".join(f"{name:<12}{value}" for name, value in rows)


def format_paired(report: Mapping[str, Any]) -> str:
    """Return a comparison of two policies in the same episodes in aligned lines.

    Args:
        report: ``policy``, and ``return`` and perhaps ``success`` as
            :class:`hindsight_rl.envs.statistics.Paired` has them.

    Returns:
        A few lines without a final newline.
    """
    rows = [("against", str(report["policy"]))]
    for name, scale, unit in (("return", 1.0, ""), ("success", 100.0, " points")):
        if (found := report.get(name)) is not None:
            gap, low, high = (scale * found[key] for key in ("difference", "low", "high"))
            rows.append(
                (
                    name,
                    f"{gap:+.2f}{unit} [{low:+.2f}, {high:+.2f}] (95 % interval of the paired "
                    f"difference); better in {found['better']} episodes, worse in {found['worse']}",
                )
            )
    return "\n".join(f"{name:<12}{value}" for name, value in rows)


def _of_seeds(reports: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return one line for each of several seeds."""
    rows = []
    for number, report in enumerate(reports):
        low, high = report["return_iqm_low"], report["return_iqm_high"]
        iqm = f"{report['return_iqm']:.2f} [{low:.2f}, {high:.2f}]"
        rows.append((f"seed {number}", f"{report['return']:.2f}, IQM {iqm} over episodes"))
    return rows
