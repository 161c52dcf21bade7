"""Next observations that were taken after the environment had been reset: found, and reported."""

import numpy as np

from hindsight_rl.keys import EPISODE, Key
from hindsight_rl.logs.agreement import Agreement
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.packed import next_key
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.entries import Observed
from hindsight_rl.logs.reading.table import Table
from hindsight_rl.logs.reading.time_order import as_written, is_vector


def check_no_leaked_reset(
    table: Table, columns: dict[Key, Array], seen: list[Observed], cut: Array, findings: Problems
) -> None:
    """Check that next observations at cuts are not those of the episode after.

    At a cut the last next observation is bootstrapped from. Where it equals the first observation
    of the following episode, and is further away than ordinary steps go, it was written after the
    reset. (Without the second condition a continuous recording cut into pieces would be an error.)

    Args:
        table: Columns of the source.
        columns: Those of the log that is made.
        seen: What is observed and whose next values are stored; images are left out.
        cut: Row numbers of the last steps of truncated episodes.
        findings: Where it came from; decides whether the first problem is raised.

    Raises:
        LogError: At most of the cuts it is so.
    """
    seen = [part for part in seen if is_vector(columns[part.key])]
    episode = columns[EPISODE]
    inside = np.flatnonzero(np.diff(episode) == 0)
    cut = cut[cut + 1 < len(episode)]
    if len(cut) < 2 or not len(inside) or not seen:
        return
    leaked, stride = np.ones(len(episode) - 1, bool), np.zeros(len(episode))
    for part in seen:
        now, after = columns[part.key], columns[next_key(part.key)]
        written, following = as_written(table, part, columns)
        leaked &= Agreement(written, following)(written[1:], following[:-1]).all(axis=1)
        with np.errstate(invalid="ignore"):
            moved = np.abs(after - now) / np.maximum(now.std(axis=0), 1e-12)
        stride = np.maximum(stride, moved.max(axis=1))
    far = np.median(stride[cut]) > np.quantile(stride[inside], 0.95)
    if 2 * leaked[cut].sum() > len(cut) and far:
        findings.report(
            f"at {int(leaked[cut].sum())} of {len(cut)} cut episodes the next observation is "
            "already the first one of the next episode",
            "Set `next_observation: shifted`, which repeats the last observation there.",
            str(table.columns.next_observation),
            int(cut[leaked[cut]][0]),
        )
