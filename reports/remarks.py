"""What looks odd about a log, in sentences: constant rewards, copies, jumps, coarse numbers."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hindsight_rl.keys import ACTION, REWARD, Key, key_name
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.packed import observed
from hindsight_rl.logs.precision import WHOLE
from hindsight_rl.logs.reading.assembly import Assembly

_NEAR_ONE = 0.9
"""Actions that reach so far, and never beyond 1, may be shares of the bounds."""


def _open_sides(bounds: dict[str, Any], action: Array) -> str:
    """Return what to say of action bounds that are not given, nothing where all are."""
    low, high = bounds.get("low"), bounds.get("high")
    if not low and not high:
        reach = max(float(action.max(initial=0.0)), -float(action.min(initial=0.0)))
        scaled = (
            " All actions lie within -1 and 1: if they are shares of the bounds, give action_scale."
        )
        return "No action bounds are given: an exported policy cannot clip to them." + (
            scaled if _NEAR_ONE <= reach <= 1 else ""
        )
    if low and high and None not in low and None not in high:
        return ""
    return "Some actions are bounded on one side or not at all: policies are clipped to what is."


def remarks_on(assembly: Assembly, lengths: Array, ended: Array) -> list[str]:
    """Return what looks odd about a log, one sentence each.

    Args:
        assembly: Columns and facts.
        lengths: ``[E]`` steps of each episode.
        ended: ``[E]`` bool, whether it reached a terminal state.

    Returns:
        Sentences.
    """
    columns, info = assembly.columns, assembly.info
    reward = columns[REWARD]
    remarks = []
    if len(reward) and (reward == reward[0]).all():
        remarks.append(f"Every reward is {reward[0]:g}: returns only count steps.")
        if reward[0] == 0:
            remarks[-1] = "Every reward is 0: returns say nothing about quality."
    longest = int(lengths[ended].max()) if ended.any() else 0
    same = int((lengths[ended] == longest).sum())
    if same > 1 and 2 * same >= ended.sum() and longest == lengths.max():
        remarks.append(
            f"{same} of {int(ended.sum())} terminated episodes stop after exactly {longest} steps: "
            "a time limit is no terminal state, see done_means."
        )
    copies = _copied_episodes(columns, lengths)
    if copies:
        remarks.append(f"{copies} episodes are exact copies of earlier ones.")
    if columns[ACTION].ndim == 2:
        open_sides = _open_sides(info.get("action") or {}, columns[ACTION])
        remarks += [open_sides] if open_sides else []
    if info.get("repeated_next_observation"):
        remarks.append(
            f"{info['repeated_next_observation']} cut episodes have no next observation for their "
            "last step: it repeats the last observation."
        )
    remarks += _coarse(assembly) + _recorded(info.get("recording") or {})
    if info.get("parted_episodes"):
        remarks.append(
            f"{info['parted_episodes']} episodes begin only because a file does: no step column "
            "shows that the one of the file before goes on."
        )
    jumps = assembly.jumps
    if jumps.count:
        remarks.append(
            f"{100 * jumps.share:.3g} % of next observations differ from the observation of the "
            f"following step, first at row {jumps.first}: rows are out of order, or an episode "
            "ends there without a flag. If so, set episode_jump in place of what delimits episodes."
        )
    return remarks


def _recorded(recording: Mapping[str, Any]) -> list[str]:
    """Return what to say of a bag: what was lost, what was left out, which times were taken."""
    found = [f"{sentence}." for sentence in recording.get("lost") or ()]
    if recording.get("lost_rows"):
        found.append(
            f"About {recording['lost_rows']:,} rows are lost with the end of the recording."
        )
    if recording.get("stale_rows"):
        found.append(
            f"{recording['stale_rows']:,} rows are left out because a sensor or command was older "
            "than max_age."
        )
    topics = recording.get("topics") or {}
    received = [name for name, about in topics.items() if about.get("stamps") == "receive"]
    if received:
        found.append(
            f"Times of {', '.join(received)} are those of receiving: the messages have no stamp of "
            "their own, or the column map says so."
        )
    return found


def _coarse(assembly: Assembly) -> list[str]:
    """Return a remark for each observed dimension of which float32 holds no fractions."""
    found = []
    for key in observed(assembly.columns):
        values, label = assembly.columns[key], key_name(key)
        if values.ndim != 2 or values.dtype.kind != "f" or not len(values):
            continue
        names = (assembly.info.get("names") or {}).get(label) or []
        sizes = np.maximum(values.max(axis=0), -values.min(axis=0))
        found += [
            f"{names[i] if i < len(names) else f'{label}[{i}]'} is near {sizes[i]:.4g} and has "
            f"{len(np.unique(values[:, i])):,} different values: float32 counts in steps of "
            f"{np.spacing(np.float32(sizes[i])):g} there. Subtract a constant from it: `offset` in "
            "the column map."
            for i in np.flatnonzero(np.isfinite(sizes) & (sizes >= WHOLE))
        ]
    return found


def _copied_episodes(columns: Mapping[Key, Array], lengths: Array) -> int:
    parts, digests = [*observed(columns), ACTION], set()
    stops, rows = np.cumsum(lengths), int(lengths.sum())
    for number, (start, stop) in enumerate(zip(stops - lengths, stops, strict=True)):
        digest = hashlib.sha256()
        for key in parts:
            more = number if len(columns[key]) > rows else 0  # images, one more in each episode
            digest.update(np.ascontiguousarray(columns[key][start + more : stop + more]).data)
        digests.add(digest.digest())
    return len(lengths) - len(digests)
