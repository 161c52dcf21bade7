"""Watch warns once of each thing that goes wrong, with the fix; divergence names term and row."""

import math
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_fits import cart_log, refused
from command_fits import fit as fit_by_command
from episode_logs import episode_log
from lightning.pytorch.callbacks import ModelCheckpoint
from small_fits import Kept, data_for, fit, learner_of, pairs_of
from tensordict import TensorDict

from hindsight_rl.agents.awr import AWR
from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.cpl import CPL
from hindsight_rl.agents.dynamics import Dynamics
from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.reward_model import RewardModel
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.preferences import PreferenceDataModule
from hindsight_rl.diagnostics.divergence import DivergenceError, broken_rows
from hindsight_rl.diagnostics.watch import Watch, largest_possible_return
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.dynamics import disagreement
from hindsight_rl.maths.horizons import rank_correlation
from hindsight_rl.relabel.returns import NStep, ReturnWeight, ScaleReward
from hindsight_rl.training.checkpoints.load import load_learner

LENGTHS = (4, 6)
QUIET = ("--trainer.enable_progress_bar", "false")
REWARD = [0.0, 1.0, -3.0, 2.0, 0.5, 0.0, 1.0, 1.0, 0.0, 2.0]


def said(found: Any) -> list[str]:
    """Return the texts of Watch among the warnings."""
    return [str(w.message) for w in found if str(w.message).startswith("watch/")]


def watched(
    kind: Any, folder: Path, data: Any = None, watch: Watch | None = None, **arguments: Any
) -> Any:
    """Fit 40 updates with a look every 10; return texts, what was logged, and the learner."""
    data = data or data_for(kind, updates_per_step=5)
    options = {k: arguments.pop(k) for k in ("val_check_interval",) if k in arguments}
    logger, learner = Kept(), learner_of(kind, data.spec, **arguments)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        options |= {"callbacks": [watch or Watch()], "logger": logger, "log_every_n_steps": 10}
        fit(learner, data, folder, 40, **options)
    return said(found), logger, learner


# --- the largest return ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relabel", "discount", "expected"),
    [
        ([], 0.9, 30.0),  # 3 / (1 - 0.9)
        ([ScaleReward(factor=0.5)], 0.9, 15.0),
        ([], 1.0, 18.0),  # 3 for each of 6 steps
        # Of the sums over two steps [.5, -.5, -2, 2 | .5, .5, 1.5, 1, 1, 2], each divided by 0.75
        # (1 - 0.5 ** 2), or by 0.5 in the last row of an episode, the largest is 2 / 0.5.
        ([NStep(2, discount=0.5)], 0.9, 4.0),
    ],
)
def test_largest_return_is_that_of_the_relabeled_rewards(
    relabel: list[Any], discount: float, expected: float
) -> None:
    data = OfflineDataModule(episode_log(LENGTHS, reward=REWARD), relabel)
    assert largest_possible_return(data, discount) == pytest.approx(expected, rel=1e-6)


def test_only_rows_that_may_be_drawn_count() -> None:
    log = episode_log(LENGTHS, reward=REWARD).with_rows(torch.tensor([0, 1, 9]))
    assert largest_possible_return(OfflineDataModule(log), 0.5) == pytest.approx(4.0)


# --- warnings -------------------------------------------------------------------------------------


def test_nothing_is_said_of_a_fit_in_order_and_its_numbers_are_logged(tmp_path: Path) -> None:
    texts, logger, learner = watched(IQL, tmp_path)
    assert texts == []
    for name in ("critic/q_max", "actor/effective_sample_size", "actor/clipped"):
        assert logger.steps_of(f"watch/{name}") == [10, 20, 30, 40]
        assert learner.latest[f"watch/{name}"] == learner.latest[f"train/{name}"]
    assert learner.latest["watch/critic/largest_return"] > learner.latest["watch/critic/q_max"]


@pytest.mark.parametrize("reward", [0.0, 1e-4])
def test_an_untrained_critic_is_no_diverging_one(reward: float, tmp_path: Path) -> None:
    """No return exceeds 0, or 0.01; the critic begins above that, and nothing is wrong."""
    log = episode_log(LENGTHS, reward=[reward] * 10)
    texts, _, learner = watched(IQL, tmp_path, data_for(IQL, log, updates_per_step=5))
    assert texts == []
    assert learner.latest["watch/critic/largest_return"] == pytest.approx(100 * reward)
    assert learner.latest["watch/critic/q_max"] > learner.latest["watch/critic/largest_return"]


def test_values_that_no_return_reaches_are_warned_of_once(tmp_path: Path) -> None:
    """Rewards of 0, and steps so large that values leave what an untrained critic has."""
    log = episode_log(LENGTHS, reward=[0.0] * 10)
    data = data_for(IQL, log, updates_per_step=5)
    texts, _, learner = watched(IQL, tmp_path, data, learning_rates={"critic": 1.0, "value": 1.0})
    (text,) = texts
    assert re.match(
        r"watch/critic/q_max, update 30: \|Q\| reaches .*can exceed 0: .*clip_norm", text
    )
    assert learner.latest["watch/critic/q_max"] > 0


@pytest.mark.parametrize("kind", [IQL, AWR])
def test_few_effective_rows_are_warned_of(kind: Any, tmp_path: Path) -> None:
    texts, *_ = watched(kind, tmp_path, watch=Watch(effective_sample_size=1.0))
    (text,) = texts
    assert re.match(r"watch/actor/effective_sample_size, update 10: .*temperature", text)


def test_clipped_weights_are_warned_of(tmp_path: Path) -> None:
    texts, *_ = watched(AWR, tmp_path, max_weight=1e-3)
    (text,) = texts
    assert re.match(r"watch/actor/clipped, update 10: .*max_weight", text)


def test_weights_of_the_data_step_are_watched_too(tmp_path: Path) -> None:
    data = OfflineDataModule(episode_log(), [ReturnWeight()], batch_size=16, updates_per_step=8)
    *_, learner = watched(BC, tmp_path, data)
    assert 0 < learner.latest["watch/actor/effective_sample_size"] < 1
    *_, plain = watched(BC, tmp_path)
    assert not any(name.startswith("watch/actor/effective") for name in plain.latest)


@pytest.mark.parametrize("clip_norm", [None, 1e-4])
def test_gradients_of_each_network_are_watched(clip_norm: float | None, tmp_path: Path) -> None:
    """Norms are those before clipping; far above the limit they are warned of, once each."""
    texts, _, learner = watched(IQL, tmp_path, clip_norm=clip_norm)
    for network in ("actor", "critic", "value"):
        norm = learner.latest[f"watch/{network}/gradient_norm"]
        assert norm > 0.01
        ratio = learner.latest.get(f"watch/{network}/gradient_ratio")
        assert ratio == (None if clip_norm is None else pytest.approx(norm / clip_norm))
    if clip_norm is None:
        assert texts == []
    else:
        assert len(texts) == 3 and all("/gradient_ratio, update 10: the gr" in t for t in texts)
        assert any("network 'critic' is" in t and "times clip_norm (0.0001)" in t for t in texts)


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"q_ratio 0.* must be above 0"):
        Watch(q_ratio=0.0)
    with pytest.raises(ValueError, match=r"clipped 1.5 are shares: in \[0, 1\]"):
        Watch(clipped=1.5)
    for name, wrong in (("accuracy", 2.0), ("calibration_error", -1.0), ("fallen", 0.0)):
        with pytest.raises(ValueError, match=f"{name} "):
            Watch(**{name: wrong})


# --- answers about pairs --------------------------------------------------------------------------


def answers(log: Log, label: torch.Tensor | None = None, **options: Any) -> Any:
    """Return pairs of a log with other labels."""
    options = {"updates_per_step": 5, "batch_size": 64} | options
    data = pairs_of(log, 200, **options)
    if label is None:
        return data
    changed = replace(data.preferences, label=label)
    options = {"validation": 0.0} | options
    return PreferenceDataModule(log, changed, **options)


def test_answers_that_name_one_side_are_warned_of(tmp_path: Path) -> None:
    for side, label in (("second", torch.ones(200)), ("first", torch.zeros(200))):
        data = answers(episode_log(), label)
        texts, *_ = watched(RewardModel, tmp_path, data)
        assert len(texts) == 1
        assert texts[0].startswith("watch/reward/second_better, update 10: every answer says that")
        assert f"the {side} segment is better" in texts[0]


def test_few_answers_of_a_chunk_may_name_one_side(tmp_path: Path) -> None:
    """One answer an update, and one update a chunk: each names one side."""
    data = answers(episode_log(), (torch.arange(200) % 2).float(), updates_per_step=1, batch_size=1)
    texts, _, learner = watched(RewardModel, tmp_path, data)
    assert learner.latest["train/reward/second_better"] in (0.0, 1.0)
    assert texts == []


def test_a_model_no_better_than_chance_is_warned_of_at_the_end(tmp_path: Path) -> None:
    """Answers by chance: some are learned by heart, and held-out ones are not known."""
    log = episode_log((30,) * 12)
    draw = torch.Generator().manual_seed(0)
    data = answers(log, torch.randint(2, (200,), generator=draw).float(), validation=0.5)
    watch = Watch(calibration_error=0.01)
    texts, _, learner = watched(RewardModel, tmp_path, data, watch, val_check_interval=40)
    assert len(texts) == 2 and data.held_out > 80
    accuracy = learner.latest["validation/reward/accuracy"]
    assert texts[0].startswith(
        f"watch/reward/accuracy, update 40: the better segment is found in {accuracy:.0%} of "
        f"{data.held_out} held-out answers"
    )
    assert re.match(r"watch/reward/calibration_error, update 40: .* off by 0.\d\d", texts[1])


def test_a_model_that_knows_is_not_warned_of(tmp_path: Path) -> None:
    log = episode_log((30,) * 12)
    log = episode_log((30,) * 12, reward=log.column("observation")[:, 0].tolist())
    data = answers(log, validation=0.5)
    rates = {"reward": 1e-2}
    texts, _, learner = watched(
        RewardModel, tmp_path, data, learning_rates=rates, val_check_interval=40
    )
    assert texts == [] and learner.latest["validation/reward/accuracy"] > 0.6


class Falling(CPL):
    """Makes every step of the segments less likely, as contrastive losses may."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, contrast=0.0, cloning=1.0, **options)
        self.cloning = -1.0


@pytest.mark.parametrize("kind", [CPL, Falling])
def test_segments_that_all_become_unlikely_are_warned_of(kind: Any, tmp_path: Path) -> None:
    rates = {"actor": 1e-2}
    texts, logger, _ = watched(kind, tmp_path, answers(episode_log()), learning_rates=rates)
    if kind is CPL:
        assert texts == []
        return
    (text,) = texts
    assert re.match(r"watch/actor/log_prob_better, update \d0: .* Lower bias", text)
    for part in ("better", "worse"):
        name = f"train/actor/log_prob_{part}"
        first, *_, last = (found[name] for _, found in logger.lines if name in found)
        assert last < first - 1.0


# --- rows that broke training ---------------------------------------------------------------------


def test_broken_rows_names_key_entry_and_row() -> None:
    chunk = TensorDict(
        {"observation": torch.zeros(2, 3, 4), "index": torch.arange(6).reshape(2, 3) + 10}, [2, 3]
    )
    assert broken_rows(chunk) == ""
    chunk["observation"][1, 2, 3] = math.inf
    assert broken_rows(chunk) == "In the data 'observation'[3] is inf in row 15 of the log."
    assert broken_rows(chunk.exclude("index")) == "In the data 'observation'[3] is inf."


def plant(monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    """Make the reward of a row of every log NaN, after it was read and checked."""
    plain = OfflineDataModule.on_after_batch_transfer

    def transfer(self: Any, batch: Any, index: int) -> Any:
        batch = plain(self, batch, index)
        reward = batch["next", "reward"].masked_fill(batch["index"] == row, math.nan)
        return batch.copy().set("next", batch["next"].copy().set("reward", reward))

    monkeypatch.setattr(OfflineDataModule, "on_after_batch_transfer", transfer)


def all_finite(path: Path) -> bool:
    """Return whether all weights of a checkpoint are finite; reading it must work."""
    return all(bool(torch.isfinite(v).all()) for v in load_learner(path).state_dict().values())


def test_nan_planted_after_loading_is_named_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_for(IQL, episode_log([80, 120]), batch_size=1, updates_per_step=4)
    plant(monkeypatch, 123)
    saved = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
    options = {"callbacks": [saved], "enable_checkpointing": True}
    message = r"loss term 'critic' is nan in update (\d+): .*step=\d+\.ckpt\. In the data "
    message += r"'next\.reward' is nan in row 123 of the log"
    with pytest.raises(DivergenceError, match=message):
        fit(learner_of(IQL, data.spec), data, tmp_path, 5000, **options)
    found = list(tmp_path.glob("*.ckpt"))
    assert found and all_finite(max(found, key=lambda path: path.stat().st_mtime))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty but for ``log.npz``."""
    monkeypatch.chdir(tmp_path)
    return cart_log(tmp_path / "log.npz").parent


def test_nan_planted_after_loading_ends_the_command(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, 7)
    words = ("--data.batch_size", 1, "--checkpoint_every", 1, "--keep", 1, "--run", "run")
    ended = fit_by_command(*words, *QUIET, updates=5000)
    assert "'next.reward' is nan in row 7 of the log" in refused(ended, code=1)
    (last,) = (place / "run" / "checkpoints").glob("*.ckpt")
    assert str(last.name) in ended.err and all_finite(last)


@pytest.mark.parametrize("config", ["iql", "marwil"])
def test_learning_rate_of_a_thousand_is_warned_of_or_stopped(config: str, place: Path) -> None:
    """Adam's steps are bounded: IQL stays finite far off, MARWIL's weights (no cap) do not."""
    words = ("--model.init_args.optimizer.init_args.lr", 1e3, "--run", "run")
    often = ("--trainer.log_every_n_steps", 10, "--data.updates_per_step", 5)
    ended = fit_by_command(*words, *often, *QUIET, config=config)
    if config == "iql":
        assert ended.code == 0
        told = ended.err.splitlines()
        assert sum(line.startswith("warning: watch/critic/q_max, update 10: |Q|") for line in told)
    else:
        assert "loss term 'actor' is nan in update" in refused(ended, code=1)
    assert all(all_finite(path) for path in (place / "run" / "checkpoints").glob("*.ckpt"))


# --- models of the dynamics -----------------------------------------------------------------------


@pytest.mark.parametrize(("least", "warned"), [(1.0, True), (-1.0, False)])
def test_disagreement_that_says_nothing_of_errors_is_warned_of(
    least: float, warned: bool, tmp_path: Path
) -> None:
    """The correlation is that of the last validation, over all held-out rows."""
    data = data_for(Dynamics, validation=0.4, updates_per_step=5)
    watch = Watch(correlation=least)
    texts, logger, learner = watched(Dynamics, tmp_path, data, watch, val_check_interval=20)
    held_out = torch.cat([batch[0]["index"] for batch in data.val_dataloader()])
    batch = next(data.in_order(held_out))[0]
    with torch.no_grad():
        mean, log_variance, y = learner.judged(batch)
    doubt = disagreement(mean, (0.5 * log_variance).exp(), "ensemble_std")
    wrong = (mean.mean(0) - y)[:, :-1].square().mean(-1)
    expected = float(rank_correlation(doubt, wrong))
    name = "validation/ensemble/correlation"
    assert learner.latest[name] == pytest.approx(expected, abs=1e-6)
    assert logger.steps_of(name) == [20, 40]
    found = [text for text in texts if "disagreement goes with the error" in text]
    assert len(found) == warned
    if warned:
        assert f"by {expected:.2f} (rank correlation), less than 1" in found[0]
    with pytest.raises(ValueError, match="correlation"):
        Watch(correlation=2.0)
