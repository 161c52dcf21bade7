"""No relabeling: the log as it is, if it has tasks."""

import pytest
from episode_logs import drawn, episode_log
from small_logs import same

from hindsight_rl.relabel.no_relabel import NoRelabel
from hindsight_rl.relabel.relabeler import Compose
from hindsight_rl.relabel.return_task import ReturnTask


def test_nothing_changes() -> None:
    chunk, bound = drawn(episode_log(task=True), NoRelabel())
    assert same(bound(chunk), chunk)


def test_a_log_without_tasks_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"the log has no 'task': map .*FutureGoal, InverseRL, Ran"
    ):
        NoRelabel().prepare(episode_log())


def test_a_task_must_be_the_one_of_the_log() -> None:
    """What an earlier part sets in the batch is not the log's."""
    with pytest.raises(ValueError, match="put NoRelabel before ReturnTask"):
        Compose([ReturnTask(), NoRelabel()]).prepare(episode_log(task=True))
