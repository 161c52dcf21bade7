"""Trajectory transformer: its loss by a loop, the past at acting, bins of a log, and a chain."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, log_for, whole_log
from tensordict import TensorDict

from hindsight_rl.agents.trajectory_transformer import TrajectoryTransformer
from hindsight_rl.datamodules.expert import Beta, Expert
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.network import Attention
from hindsight_rl.planners.beam import Beam, Sequential
from hindsight_rl.planners.cem import CEM
from hindsight_rl.policies.planning import Search, written
from hindsight_rl.relabel.returns import ReturnToGo, ScaleReward
from hindsight_rl.training.checkpoints.load import load_learner

SMALL: dict[str, Any] = {"context": 4, "bins": 6, "search": Search(horizon=2, beam=3)}
REWARD, END = ("next", "reward"), ("next", "terminated")


def made(**options: bool) -> tuple[TrajectoryTransformer, TensorDict]:
    """Return a learner whose logits differ, and a batch of a whole log."""
    data = data_for(TrajectoryTransformer, episode_log(**options), SMALL)
    learner = learner_of(TrajectoryTransformer, data.spec, **SMALL)
    data.serve(learner)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return learner, whole_log(learner, data)


# --- the loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"task": True}, {"discrete": True}])
def test_loss_is_that_of_a_plain_loop(options: dict[str, bool]) -> None:
    """Windows without padding, token by token; actions weigh 5, the first number is given."""
    learner, batch = made(**options)
    past, net, bins = batch["history"], learner.actor, learner.actor.bins
    acted, total, count = range(bins.slots)[bins.part("action")], torch.zeros(()), 0
    weight = torch.rand(len(batch)) + 0.5
    weighted = torch.zeros(())
    for row in range(len(batch)):
        steps = [bins.numbers(past[row, place]) for place in range(3) if past["valid"][row, place]]
        tokens = bins(torch.stack([*steps, bins.numbers(batch[row])]))
        task = batch["task"][row] if "task" in batch.keys() else None
        found = net(tokens, torch.ones(len(tokens), dtype=torch.bool), task)
        nats = torch.zeros(())
        for step in range(len(tokens)):
            for slot in range(0 if step else 1, bins.slots):
                factor = 5.0 if slot in acted else 1.0
                nats, count = nats - factor * found[step, slot, tokens[step, slot]], count + 1
        total, weighted = total + nats, weighted + weight[row] * nats
    torch.testing.assert_close(learner.losses(batch).terms["actor"], total / count)
    batch["weight"] = weight
    torch.testing.assert_close(learner.losses(batch).terms["actor"], weighted / count)


def test_metrics_are_nats_of_each_part() -> None:
    """Of logits that are all 0: log 6 for numbers, log 3 for choices, log 2 for ends."""
    learner, batch = made(discrete=True)
    with torch.no_grad():
        learner.actor.weight.zero_(), learner.actor.bias.zero_()
    found = learner.losses(batch).metrics
    expected = {"observation": 6, "action": 3, "reward": 6, "return": 6, "end": 2}
    for name, choices in expected.items():
        assert found[f"actor/{name}_nats"].exp().item() == pytest.approx(choices, rel=1e-5)


# --- acting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"task": True}, {"discrete": True}])
def test_the_past_at_acting_is_the_window_of_the_log(options: dict[str, bool]) -> None:
    """Played along episodes with the log's actions, the model sees its last K - H steps."""
    learner, batch = made(**options)
    net, bins = learner.actor, learner.actor.bins
    assert learner.past == 2
    tokens = bins(bins.numbers(batch))
    for episode in (0, 1, 3):
        rows = (batch["episode"] == episode).nonzero()[:, 0].tolist()
        state = learner.initial_state(1)
        for row in rows:
            asked = batch["task"][row : row + 1] if "task" in batch.keys() else None
            seen = batch["observation"][row : row + 1]
            found = net.next_log_prob(written(net, seen, asked, state))
            window = tokens[max(rows[0], row - 2) : row + 1].unsqueeze(0)
            there = torch.ones(window.shape[:2], dtype=torch.bool)
            expected = net(window, there, asked)[:, -1, bins.first["action"]]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            state = learner.decide(seen, asked, state).state
            state["action"][:, -1] = batch["action"][row]


@pytest.mark.parametrize("discrete", [False, True])
def test_it_is_played_fitted_and_tested_in_pytorch(discrete: bool, tmp_path: Path) -> None:
    """From a checkpoint, like any learner; the same seeds give the same episodes."""
    columns = walks(discrete)
    data = OfflineDataModule(columns, [ReturnToGo()], batch_size=16, updates_per_step=5)
    asked = Evaluation(
        env="tiny_envs:Tiny/Walk-v0", env_kwargs={"discrete": discrete}, every=10, episodes=2
    )
    learner = learner_of(TrajectoryTransformer, data.spec, evaluation=asked)
    trainer = fit(learner, data, tmp_path, 20)
    assert {"eval/return", "eval/length"} <= learner.latest.keys()
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    loaded = load_learner(tmp_path / "some.ckpt")
    played = [
        rollout(
            each.player(),
            "tiny_envs:Tiny/Walk-v0",
            episodes=3,
            seed=4,
            env_kwargs={"discrete": discrete},
        )
        for each in (learner, loaded)
    ]
    assert (played[0].returns == played[1].returns).all()
    search = learner.search
    planner = Beam(search.horizon, search.beam, search.candidates, search.cut)
    expert = Expert(planner=planner, beta=Beta((1.0,)), model=str(tmp_path / "some.ckpt"))
    collector = Collector(
        "tiny_envs:Tiny/Walk-v0", {"discrete": discrete}, seed=4, expert=expert, num_envs=2
    )
    found = collector.collect(None, 0, 3)
    assert found.columns["by_expert"].all()
    assert (found.returns == played[0].returns).all()  # its labels are what it does


def test_a_beam_plans_by_a_model_of_episodes_alone(tmp_path: Path) -> None:
    learner, _ = made()
    assert isinstance(learner, Sequential) and not isinstance(CEM(), Sequential)
    narrow = Beam(horizon=1, beam=2).actor(learner, learner.spec.action)
    state = narrow.initial_state(2)
    assert state["state.action"].shape[1] == learner.past + learner.search.horizon - 1
    with pytest.raises(ValueError, match="above the horizon"):
        Beam(horizon=50).actor(learner, learner.spec.action)
    with pytest.raises(ValueError, match="checkpoint or run of a TrajectoryTransformer"):
        Beam().actor(lambda observation, action, draws=None: None, learner.spec.action)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="leave out the value"):
        Beam().actor(learner, learner.spec.action, value=lambda seen, task: seen[..., 0])


def walks(discrete: bool) -> Log:
    """Return random episodes of the small environment."""
    rows, size = 60, 6
    draw = torch.Generator().manual_seed(0)
    position = torch.randn(rows + 1, generator=draw)
    time = (torch.arange(rows + 1) % size).float()
    seen = torch.stack([position, time], dim=-1)
    ends = torch.arange(rows) % size == size - 1
    action = torch.rand(rows, 1, generator=draw) * 2 - 1
    bounds: dict[str, Any] = {"action": {"low": [-1.0], "high": [1.0]}}
    return Log.from_columns(
        {
            "observation": seen[:-1],
            "action": (action[:, 0] > 0).long() if discrete else action,
            "episode": torch.arange(rows) // size,
            ("next", "observation"): seen[1:],
            REWARD: position[1:],
            END: torch.zeros(rows, dtype=torch.bool),
            ("next", "truncated"): ends,
        },
        {} if discrete else bounds,
    )


# --- the log --------------------------------------------------------------------------------------


def test_bins_are_those_of_the_rows_that_train(tmp_path: Path) -> None:
    """Held-out episodes shape none; a checkpoint and a start from its weights keep them."""
    log = episode_log()
    data = data_for(TrajectoryTransformer, log, SMALL, validation=0.3)
    learner = learner_of(TrajectoryTransformer, data.spec, **SMALL)
    trainer = fit(learner, data, tmp_path, 2)
    bins, rows = learner.actor.bins, data.log.drawable()
    assert len(rows) < len(log)
    for name, key in (("reward", REWARD), ("return", "return_to_go")):
        column = data.log.column(key)[rows]
        found = bins.means[bins.part(name)][0]
        assert found[0] >= column.min() and found[-1] <= column.max()
        tokens = (column.unsqueeze(-1) >= bins.edges[bins.part(name)][0, 1:-1]).sum(-1)
        assert tokens.bincount(minlength=6).min() >= len(rows) // 6 - 1
        for token in range(6):
            torch.testing.assert_close(found[token], column[tokens == token].mean())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    other = data_for(TrajectoryTransformer, log_for(TrajectoryTransformer, seed=1), SMALL)
    start = str(tmp_path / "first.ckpt")
    later = learner_of(TrajectoryTransformer, other.spec, weights_from=start, **SMALL)
    fit(later, other, tmp_path, 2)
    assert later.actor.bins.edges.equal(bins.edges) and later.actor.bins.means.equal(bins.means)


@pytest.mark.parametrize(
    "relabel", [[ReturnToGo(discount=0.9)], [ReturnToGo(), ScaleReward(factor=2.0)]]
)
def test_returns_of_another_discount_or_of_other_rewards(
    relabel: list[Any], tmp_path: Path
) -> None:
    data = OfflineDataModule(episode_log(), relabel, batch_size=8)
    learner = learner_of(TrajectoryTransformer, data.spec, **SMALL)
    with pytest.raises(ValueError, match=r"return_to_go is not the reward and 0.99 times the next"):
        fit(learner, data, tmp_path, 1)


def test_returns_that_are_not_there(tmp_path: Path) -> None:
    data = OfflineDataModule(episode_log(), batch_size=8)
    learner = learner_of(TrajectoryTransformer, data.spec, **SMALL)
    with pytest.raises(LogError, match=r"history of 'return_to_go'.*Add the relabeler ReturnToGo"):
        fit(learner, data, tmp_path, 1)


# --- what it is for -------------------------------------------------------------------------------


def chain(episodes: int = 60) -> Log:
    """Return walks of three steps on one of two branches, chosen by the first action.

    Seven of ten take branch 0, which pays 0.4 at once; branch 1 pays 1 in the end. What is done
    later does not matter.
    """
    branch = (torch.arange(episodes) % 10 >= 7).long()
    place = torch.arange(4).expand(episodes, -1)
    side = (2 * branch - 1).unsqueeze(-1) * (place > 0)
    seen = torch.stack([place, side], dim=-1).float()
    draw = torch.randint(0, 2, (episodes, 2), generator=torch.Generator().manual_seed(0))
    reward = torch.zeros(episodes, 3)
    reward[:, 0], reward[:, 2] = 0.4 * (1 - branch), 1.0 * branch
    last = (torch.arange(3) == 2).expand(episodes, -1)
    return Log.from_columns(
        {
            "observation": seen[:, :3].reshape(-1, 2),
            "action": torch.cat([branch.unsqueeze(-1), draw], dim=-1).flatten(),
            "episode": torch.arange(episodes).repeat_interleave(3),
            ("next", "observation"): seen[:, 1:].reshape(-1, 2),
            REWARD: reward.flatten(),
            END: last.flatten(),
            ("next", "truncated"): torch.zeros(3 * episodes, dtype=torch.bool),
        }
    )


def test_plans_take_the_branch_that_pays_in_the_end(tmp_path: Path) -> None:
    """The log's habit is the other one, and so are draws of the model; horizons 1 to 4 agree.

    Plans of four steps go beyond the end of every episode, and promise no more for it.
    """
    torch.manual_seed(0)
    data = OfflineDataModule(chain(), [ReturnToGo()], batch_size=32, updates_per_step=50)
    learner = TrajectoryTransformer(
        data.spec,
        attention=Attention(16, 2, 1),
        bins=10,
        context=5,
        search=Search(horizon=2, beam=4),
        optimizer=lambda params: torch.optim.Adam(params, lr=5e-3),
    )
    fit(learner, data, tmp_path, 200)
    seen = torch.zeros(1, 2)
    for horizon in (1, 2, 3, 4):
        learner.search = Search(horizon=horizon)
        promised = learner.scores(seen)
        expected = torch.tensor([[0.4, 0.99**2]])
        torch.testing.assert_close(promised, expected, atol=0.1, rtol=0)
        assert learner(seen).tolist() == [1]
    for horizon in (1, 4):
        actor = Beam(horizon=horizon, beam=4).actor(learner, data.spec.action)
        none = np.zeros((1, 3), np.int64)
        action, _ = actor.step(seen.numpy(), None, actor.initial_state(1), none)
        assert action.tolist() == [1]
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(1000))[0]
    share = learner.act(seen.expand(1000, -1), draws=draws).float().mean()
    assert 0.2 < share < 0.4


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"bins": 1}, "bins 1 must be at least 2"),
        ({"context": 5}, "context is 5, it must be at least 6, above the horizon"),
        ({"discount": 1.1}, r"discount is 1.1, it must lie in \[0, 1\]"),
        ({"action_weight": 0.0}, "action_weight 0.0 above 0"),
    ],
)
def test_arguments_out_of_range(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TrajectoryTransformer(OfflineDataModule(episode_log()).spec, **given)
