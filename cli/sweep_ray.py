"""The runs of a sweep on the machines of a Ray cluster."""

from concurrent.futures import Future
from typing import Any

from hindsight_rl.cli.sweep_runs import Fit, execute

_EXTRA = '--ray needs Ray: pip install "hindsight-rl[ray]"'


class Cluster:
    """Runs as tasks of a Ray cluster; each takes one core unless the cluster says otherwise.

    The folder of the sweep, and the log, must be the same files on all machines.

    Args:
        address: Of the cluster (``auto``, ``ray://head:10001``), or ``local`` for one on this
            machine.

    Raises:
        ValueError: Ray is not installed, or there is no such cluster.
    """

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise ValueError(_EXTRA) from error
        self._ray = ray
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(f"--ray {address}: no cluster answers there ({error})") from error
        self._execute = ray.remote(num_cpus=1, max_retries=0)(execute)
        self._tasks: list[Any] = []

    def submit(self, fit: Fit) -> "Future[dict[str, Any]]":
        """Start a run as soon as the cluster has room for it."""
        self._tasks.append(self._execute.remote(fit))
        found: Future[dict[str, Any]] = self._tasks[-1].future()
        return found

    def close(self) -> None:
        """Leave the cluster, which ends what still runs; its checkpoints stay."""
        for task in self._tasks:
            self._ray.cancel(task)
        self._ray.shutdown()
