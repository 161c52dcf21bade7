"""The runs of a sweep on the machines of a Ray cluster."""

from concurrent.futures import Future
from typing import Any

from hindsight_rl.cli.sweep_runs import Fit, execute
from hindsight_rl.workers import Cluster


class RayRuns:
    """Runs as tasks of a Ray cluster; each takes one core unless the cluster says otherwise.

    The folder of the sweep, and the log, must be the same files on all machines.

    Args:
        address: Of the cluster (``auto``, ``ray://head:10001``), or ``local`` for one on this
            machine.

    Raises:
        ValueError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str) -> None:
        self._cluster = Cluster(address)

    def submit(self, fit: Fit) -> "Future[dict[str, Any]]":
        """Start a run as soon as the cluster has room for it."""
        return self._cluster.submit(execute, fit)

    def close(self) -> None:
        """End the tasks, and leave the cluster; fits whose task is gone end by themselves."""
        self._cluster.close()
