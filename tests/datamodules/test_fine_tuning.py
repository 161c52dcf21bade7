"""Fine-tuning: a log in the replay, weights of a checkpoint, then the policy's own episodes."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_process import differences
from small_fits import Kept, equal, fit, learner_of, weights
from small_logs import same
from small_replays import REACH, WALK, log_of, online
from tiny_envs import Walk

from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.spec import Spec
from hindsight_rl.training.checkpoints.load import load_learner
from hindsight_rl.training.learner import Learner

QUIET = {"compile": "off"}


def two_choices() -> Walk:
    """Return the walk with pushes to the left or right."""
    return Walk(discrete=True)


def trained(kind: type[Learner], log: Log, folder: Path, **options: Any) -> Path:
    """Return a checkpoint of 50 updates on a log."""
    data = OfflineDataModule(log, batch_size=8, updates_per_step=5, **options)
    trainer = fit(learner_of(kind, data.spec, **QUIET), data, folder, 50)
    trainer.save_checkpoint(folder / "offline.ckpt")
    return folder / "offline.ckpt"


def tuned(kind: type[Learner], log: Log, start: Path, folder: Path, **options: Any) -> Any:
    """Return a learner after 40 updates online, its datamodule and its checkpoint."""
    data = online(log, **options)
    learner = learner_of(kind, data.spec, weights_from=str(start), weight_seed=5, **QUIET)
    trainer = fit(learner, data, folder, 40)
    trainer.save_checkpoint(folder / "online.ckpt")
    return learner, data, folder / "online.ckpt"


# --- the log in the replay ------------------------------------------------------------------------


@pytest.mark.parametrize("env", [WALK, REACH, two_choices])
def test_the_replay_begins_with_the_rows_of_the_log(env: Any, tmp_path: Path) -> None:
    log = log_of(env)
    data = online(log, env, [FutureGoal()] if env == REACH else None)
    assert data.history == [] and len(data.log) == len(log) and data.log_hash == log.hash()
    assert data.spec.whole.mean == pytest.approx(log.column("observation").mean(0).tolist())
    fit(learner_of(IQL, data.spec, **QUIET), data, tmp_path, 30)
    rows = torch.arange(len(log))
    kept = data.log.gather(rows)
    assert same(log.gather(rows), kept.select(*log.keys(), "index"))
    assert data.log.episodes == log.episodes + data.history[-1].episodes
    assert len(data.log) == len(log) + data.history[-1].env_steps


def test_columns_that_are_not_collected_are_left() -> None:
    log = log_of().with_columns({"weight": torch.ones(len(log_of()))})
    assert "weight" not in online(log).log


def test_names_and_units_of_the_log_reach_the_spec() -> None:
    data = online(log_of(names={"observation": ["place", "time"]}, units={"action": ["N"]}))
    assert data.spec.whole.names == ("place", "time")
    assert data.spec.action.units == ("N",)


def test_the_policy_collects_from_the_first_update_on(tmp_path: Path) -> None:
    """The log counts neither as steps nor as updates."""
    log, kept = log_of(), Kept()
    data = online(log, updates_per_env_step=0.5)
    fit(learner_of(IQL, data.spec, **QUIET), data, tmp_path, 30, logger=kept)
    first = data.history[0]
    assert (first.update, first.episodes) == (0, 3)
    assert first.updates == round(0.5 * first.env_steps)
    assert kept.steps_of("collect/return") == [each.update for each in data.history]


def test_random_episodes_may_follow_the_log(tmp_path: Path) -> None:
    log = log_of()
    data, plain = (online(each, initial_episodes=4) for each in (log, None))
    assert data.history == plain.history and data.history[0].episodes == 4
    rows = torch.arange(len(log), len(data.log))
    assert torch.equal(data.log.gather(rows)["action"], plain.log.column("action"))


# --- weights of a checkpoint ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [IQL, SAC])
def test_weights_and_targets_are_those_of_the_checkpoint(
    kind: type[Learner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not its counters and not its optimiser; statistics are the checkpoint's."""
    start = trained(kind, log_of(), tmp_path)
    seen: list[Any] = []
    begin = kind.on_train_start

    def noting(learner: Any) -> None:
        begin(learner)
        states = len(learner.runner.optimizer.state)
        seen.append((learner.trainer.global_step, weights(learner), states))

    # No subclass: it would have the name that the checkpoint gives, and the parsers of later tests
    # would find two classes of that name.
    monkeypatch.setattr(kind, "on_train_start", noting)
    data = online(log_of(episodes=12))
    learner = learner_of(kind, data.spec, weights_from=str(start), weight_seed=5, **QUIET)
    fit(learner, data, tmp_path, 10)
    saved = torch.load(start, weights_only=True)
    ((updates, before, states),) = seen
    assert updates == states == 0
    assert equal(before, saved["state_dict"])
    offline = saved["hyper_parameters"]["spec"]
    offline = Spec.from_dict(offline)
    assert learner.spec.observation == offline.observation != data.spec.observation
    assert learner.spec.dataset == data.spec.dataset
    # A second fit goes on from where the first ended, not from the checkpoint.
    after = weights(learner)
    learner.setup("fit")
    assert equal(weights(learner), after) and not equal(after, before)


def test_equal_seeds_end_with_equal_bits(tmp_path: Path) -> None:
    log = log_of()
    start = trained(IQL, log, tmp_path)
    ends = [weights(tuned(IQL, log, start, tmp_path / name)[0]) for name in "ab"]
    assert equal(*ends)
    other = tuned(IQL, log, start, tmp_path / "c", seed=4)[0]
    assert not equal(weights(other), ends[0])


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_resumed_run_ends_the_same(where: str, tmp_path: Path) -> None:
    log = log_of()
    start = trained(IQL, log, tmp_path)

    def run(folder: Path, updates: int, ckpt_path: Path | None = None) -> Any:
        place = str(folder / "replay") if where == "file" else None
        data = online(log, memory_map=place)
        learner = learner_of(IQL, data.spec, weights_from=str(start), **QUIET)
        trainer = fit(learner, data, folder, updates, ckpt_path=ckpt_path)
        trainer.save_checkpoint(folder / f"{updates}.ckpt")
        return torch.load(folder / f"{updates}.ckpt", weights_only=True)

    whole = run(tmp_path / "one", 60)
    run(tmp_path / "two", 23)
    again = run(tmp_path / "two", 60, tmp_path / "two" / "23.ckpt")
    for key in ("state_dict", "optimizer_states", "global_step", "IteratedDataModule"):
        assert differences(whole[key], again[key], key) == []


def test_a_tuned_policy_is_read_without_the_first_checkpoint(tmp_path: Path) -> None:
    log = log_of()
    start = trained(SAC, log, tmp_path)
    learner, data, end = tuned(SAC, log, start, tmp_path / "tuned")
    start.unlink()
    again = load_learner(end)
    assert equal(weights(again), weights(learner)) and again.spec == learner.spec
    seen = data.log.column("observation", slice(20))
    assert torch.equal(again(seen), learner(seen))


# --- refusals -------------------------------------------------------------------------------------


def changed(log: Log, **columns: torch.Tensor) -> Log:
    """Return a log with other columns."""
    held = {key: columns.get(str(key), log.column(key)) for key in log.keys()}
    return Log.from_columns(held, log.info)


def test_a_log_of_another_environment_is_refused() -> None:
    log = log_of()
    with pytest.raises(LogError, match=r"'observation' has shape \[3\], that of .*Walk-v0 \[2\]"):
        online(changed(log, observation=torch.zeros(len(log), 3)))
    with pytest.raises(LogError, match=r"actions are choices, those of .* numbers \[1\]"):
        online(changed(log, action=torch.zeros(len(log), dtype=torch.int64)))
    choices = log_of(two_choices)
    many = changed(choices, action=torch.full((len(choices),), 4))
    with pytest.raises(LogError, match=r"an action of 4, outside those of .* 0.0 to 1.0"):
        online(many, two_choices)
    with pytest.raises(LogError, match="the log has no 'task'"):
        online(changed(log_of()), REACH)
    goals = changed(log_of(REACH), task=torch.zeros(len(log_of(REACH)), 3))
    with pytest.raises(LogError, match=r"'task' has shape \[3\], that of .*Reach-v0 \[2\]"):
        online(goals, REACH)


def test_a_log_in_other_units_is_refused() -> None:
    log = log_of()
    with pytest.raises(LogError, match=r"have the low bound \[-2.0\], those of .* \[-1.0\]"):
        online(log_of(action={"low": [-2.0], "high": [2.0]}))
    loud = changed(log, action=log.column("action") * 3)
    loud.info.pop("action")
    with pytest.raises(LogError, match=r"outside those of .*, \[-1.0\] to \[1.0\]. Map the log's"):
        online(loud)


def test_actions_whose_unit_nobody_states_are_told() -> None:
    """Half as large as they should be, say: nothing but the warning tells."""
    log = log_of()
    small = changed(log, action=torch.linspace(-0.5, 0.25, len(log))[:, None])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        online(small)
        online(log_of(two_choices), two_choices)
    for stated in (None, {"low": None, "high": None}, {"low": [-1.0], "high": None}):
        told = Log.from_columns({key: small.column(key) for key in small.keys()}, small.info)
        told.info["action"] = stated
        with pytest.warns(
            UserWarning, match=r"not state its .* -0.5 to 0.25, .*, -1 to 1: give act"
        ):
            online(told)
    told.info["action"] = {"low": [None], "high": [1.0]}
    with pytest.raises(LogError, match=r"have the low bound \[None\], those of .* \[-1.0\]"):
        online(told)


def test_a_log_that_does_not_fit_is_refused() -> None:
    log = log_of()
    with pytest.raises(LogError, match=rf"{len(log)} rows do not fit a capacity of 20. Set capac"):
        online(log, capacity=20)
    with pytest.raises(LogError, match=rf"3 of its {len(log)} rows may be drawn, and a replay"):
        online(log.with_rows(torch.arange(3)))


def test_arguments_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"is 0, it must be at least 1, or 0 .*\(give --data.source LOG"
    ):
        online(None)
    with pytest.raises(ValueError, match="initial_episodes is -1, it must be at least 0"):
        online(log_of(), initial_episodes=-1)
    with pytest.raises(ValueError, match="columns are those of a source, and none is given"):
        online(None, columns="rllib_cartpole", initial_episodes=1)
    with pytest.raises(LogError, match="columns and weights are for sources that are read"):
        online(log_of(), columns="rllib_cartpole")


def test_a_run_is_resumed_with_its_log_only(tmp_path: Path) -> None:
    log = log_of()
    _, _, end = tuned(IQL, log, trained(IQL, log, tmp_path), tmp_path / "tuned")
    for source, told in ((log_of(episodes=9), "this is a log with hash"), (None, "this is no log")):
        data = online(source, initial_episodes=0 if source else 4)
        with pytest.raises(LogError, match=f"was started with a log with hash .*, and {told}"):
            fit(learner_of(IQL, data.spec), data, tmp_path, 60, ckpt_path=end)
