"""FQE of a given policy: a function, a checkpoint; what it answers is kept with the run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_fits import cart_log, fit_words
from command_fits import hindsight as command
from episode_logs import episode_log
from small_fits import data_for, equal, fit, learner_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.fqe import FQE
from hindsight_rl.cli.runs import newest_checkpoint
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import NEXT_POLICY_ACTION, NEXT_POLICY_PROBABILITY
from hindsight_rl.logs.errors import LogError
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.training.checkpoints.load import load_learner


def centred(observation: Any) -> Any:
    """Return the tangent of two observed numbers, within the bounds of the log."""
    return 0.5 * np.tanh(observation[:, :2]) + np.array([0.0, 1.0], np.float32)


def judging(policy: Any, folder: Path, updates: int = 8, **options: Any) -> FQE:
    data = OfflineDataModule(episode_log(), batch_size=16, updates_per_step=8)
    learner = learner_of(FQE, data.spec, policy=policy)
    fit(learner, data, folder, updates, **options)
    return learner


def test_a_function_answers_where_the_log_has_no_columns(tmp_path: Path) -> None:
    """Fitted to the same numbers as columns of the log, the critics are the same."""
    learner = judging(centred, tmp_path)
    log = episode_log()
    after = log.column(("next", "observation")).numpy()
    answers = torch.as_tensor(centred(after))[:, None]
    assert learner.log_pass.columns[NEXT_POLICY_ACTION].equal(answers)
    data = OfflineDataModule(log.with_columns({NEXT_POLICY_ACTION: answers}), batch_size=16)
    data.updates_per_step = 8
    twin = learner_of(FQE, data.spec)
    fit(twin, data, tmp_path, 8)
    assert equal(twin.state_dict(), learner.state_dict())
    assert learner.hparams.policy is None


@pytest.mark.parametrize("discrete", [False, True])
def test_a_checkpoint_answers(discrete: bool, tmp_path: Path) -> None:
    data = data_for(BC, episode_log(discrete=discrete))
    cloned = learner_of(BC, data.spec)
    path = tmp_path / "policy.ckpt"
    fit(cloned, data, tmp_path, 4).save_checkpoint(path)
    learner = learner_of(FQE, data.spec, policy=str(path))
    fit(learner, data, tmp_path, 8).save_checkpoint(tmp_path / "judged.ckpt")
    action = cloned.eval()(data.log.column(("next", "observation")))
    if discrete:
        found = learner.log_pass.columns[NEXT_POLICY_PROBABILITY]
        assert found.equal(torch.nn.functional.one_hot(action, 3).float())
    else:
        found = learner.log_pass.columns[NEXT_POLICY_ACTION]
        torch.testing.assert_close(found, action.detach()[:, None])
    # The checkpoint holds the answers: a run goes on without the policy.
    path.unlink()
    again = learner_of(FQE, data.spec, policy=str(path))
    fit(again, data, tmp_path, 16, ckpt_path=tmp_path / "judged.ckpt")
    assert torch.isfinite(again.critic.mean) and again.hparams.policy == str(path)
    assert load_learner(tmp_path / "judged.ckpt").hparams.policy == str(path)


def test_a_policy_never_saw_the_tasks_of_relabelers(tmp_path: Path) -> None:
    data = OfflineDataModule(episode_log(goals=True, task=True), [FutureGoal()])
    learner = learner_of(FQE, data.spec, policy=str(tmp_path / "any.ckpt"))
    with pytest.raises(ValueError, match=r"other tasks in every batch: write the relabeled log"):
        learner.log_pass.sweep(data, 0, torch.device("cpu"))


def test_a_log_without_answers_needs_a_policy(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"needs 'next.policy_action', .* Name the policy \(--model"):
        judging(None, tmp_path)


def test_commands_that_need_a_policy_say_in_one_line_that_there_is_none(tmp_path: Path) -> None:
    """Fitted with the command, with the checkpoint of another learner as what is judged."""
    log, runs = cart_log(tmp_path / "log.npz"), {name: tmp_path / name for name in ("bc", "fqe")}
    for name, run in runs.items():
        given = ["--model.policy", newest_checkpoint(runs["bc"])] if name == "fqe" else []
        ended = command(*fit_words(*given, "--run", run, config=name, log=log, updates=4))
        assert ended.code == 0, ended.err
    saved = torch.load(newest_checkpoint(runs["fqe"]), weights_only=True)
    columns = saved["hindsight"]["log_pass"]["columns"]
    assert columns["next.policy_probability"].shape == (200, 2)
    judged = ["--run", runs["fqe"]]
    for words, said in (
        (["export", *judged, "--output", tmp_path / "p.onnx"], "FQE is not exported: it judges"),
        (["test", *judged], "FQE fits no policy: there are no episodes to run"),
        (["test", *judged, "--env", "CartPole-v1"], "FQE fits no policy: leave the environment"),
        (["predict", *judged], "FQE fits no policy: there are no actions to predict"),
    ):
        ended = command(*words)
        assert ended.code == 2 and said in ended.err, (words, ended)
        assert "Traceback" not in ended.err
