"""Functions of parts in several processes: order, errors, and what becomes of processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from near_workers import own_number, squared

from hindsight_rl.files import is_alive
from hindsight_rl.workers import Cluster, Processes, WorkerError, Workers, each


@pytest.fixture(params=["processes", "ray"])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    if request.param == "ray":
        pytest.importorskip("ray", reason="of the extra 'ray'")
    with closing(Processes(2) if request.param == "processes" else Cluster("local")) as found:
        yield found


def test_answers_come_in_the_order_of_the_parts(workers: Workers) -> None:
    assert list(each(workers, squared, range(11))) == [n**2 for n in range(11)]


def test_an_error_names_its_part_and_the_others_are_done(workers: Workers) -> None:
    found = each(workers, squared, [2, 3, -1, 5], name="shard {}".format)
    assert [next(found), next(found)] == [4, 9]
    with pytest.raises(ValueError, match="^shard 2: -1 is below 0$"):
        next(found)


def test_a_process_that_is_killed_is_an_error_that_names_its_part(workers: Workers) -> None:
    with pytest.raises(WorkerError, match="^shard 1: (its process was killed|Ray lost it)"):
        list(each(workers, squared, [1, 13, 2, 3], name="shard {}".format))


def test_processes_end_when_the_workers_are_closed() -> None:
    with closing(Processes(2)) as workers:
        numbers = [workers.submit(own_number, None) for _ in range(2)]
        assert all(is_alive(number.result()) for number in numbers)
    assert not any(is_alive(number.result()) for number in numbers)


_PARENT = """
import sys, time
from near_workers import own_number
from hindsight_rl.workers import Processes
if __name__ == "__main__":
    print(Processes(1).submit(own_number, None).result(), flush=True)
    time.sleep(600)
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    words = [sys.executable, str(script)]
    there = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=there) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.kill()
    latest = time.monotonic() + 60
    while is_alive(child) and time.monotonic() < latest:
        time.sleep(0.05)
    assert not is_alive(child)
