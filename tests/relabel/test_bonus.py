"""Bonuses of exploration: their values, their unit, and that they leave all else alone."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import drawn, episode_log
from small_fits import differences, equal, fit, learner_of, weights
from small_logs import same
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.dynamics import Dynamics
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.relabeled import write_relabeled
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.coverage import discounted_sums
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.count_bonus import CountBonus
from hindsight_rl.relabel.disagreement import DisagreementBonus
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.learned_bonus import RND
from hindsight_rl.relabel.marginal_matching import StateMarginalMatching
from hindsight_rl.relabel.relabeler import Relabeler

REWARD = ("next", "reward")
EVERY: dict[str, Callable[..., Any]] = {
    "counts": CountBonus,
    "hashes of steps": lambda **o: CountBonus(of="step", **o),
    "RND": lambda **o: RND(hidden=(16, 8), learning_rate=1e-2, **o),
    "disagreement": lambda **o: DisagreementBonus(members=3, hidden=(8,), **o),
    "information": lambda **o: DisagreementBonus(members=3, hidden=(8,), kind="information", **o),
    "marginal matching": StateMarginalMatching,
}
LEARNED = ["RND", "disagreement", "information"]


@pytest.fixture(params=EVERY)
def bonus(request: pytest.FixtureRequest) -> Callable[..., Relabeler]:
    return EVERY[request.param]


def line(places: list[float], lengths: list[int] | None = None) -> Log:
    """Return steps that lead to given places; rewards are 1, 2, ..."""
    following = torch.tensor(places)[:, None]
    size = torch.tensor(lengths or [len(places)])
    last = torch.zeros(len(places), dtype=torch.bool)
    last[size.cumsum(0) - 1] = True
    return Log.from_columns(
        {
            "observation": torch.cat([torch.zeros(1, 1), following[:-1]]),
            "action": torch.zeros(len(places), dtype=torch.int64),
            "episode": torch.arange(len(size)).repeat_interleave(size),
            ("next", "observation"): following,
            REWARD: torch.arange(1.0, len(places) + 1),
            ("next", "terminated"): torch.zeros_like(last),
            ("next", "truncated"): last,
        },
        {"source": "line", "discrete_actions": 2},
    )


def bonuses(log: Log, relabeler: Relabeler) -> Tensor:
    """Return what each row gets beside its reward, ``[N]``, without learning."""
    chunk, bound = drawn(log, relabeler, updates=1, batch_size=1000)
    with torch.no_grad():
        added = (bound(chunk)[REWARD] - chunk[REWARD])[0]
    found = torch.full((len(log),), torch.nan)
    found[chunk["index"][0]] = added
    assert not found.isnan().any()
    return found


# --- what all have in common ----------------------------------------------------------------------


def test_a_coefficient_of_0_is_the_identity_bit_for_bit(bonus: Callable[..., Relabeler]) -> None:
    chunk, bound = drawn(episode_log(discrete=True), bonus(coefficient=0.0))
    assert same(bound(chunk), chunk)
    assert bound.state_dict() == {}


def test_nothing_but_the_reward_changes_and_no_gradient_enters(
    bonus: Callable[..., Relabeler],
) -> None:
    chunk, bound = drawn(episode_log(discrete=True), bonus())
    before, found = chunk.clone(), bound(chunk)
    assert same(chunk, before)
    assert not found[REWARD].equal(chunk[REWARD])
    assert not found[REWARD].requires_grad
    assert same(found.exclude(REWARD), chunk.exclude(REWARD))


def test_a_penalty_is_the_bonus_taken_off(bonus: Callable[..., Relabeler]) -> None:
    log = episode_log(discrete=True)
    one, other = bonuses(log, bonus()), bonuses(log, bonus(sign="penalty"))
    assert_close(other, -one)


def test_keep_is_a_factor_of_the_reward(bonus: Callable[..., Relabeler]) -> None:
    log = episode_log(discrete=True)
    chunk, bound = drawn(log, bonus(keep=0.0), updates=1)
    with torch.no_grad():
        alone = bound(chunk)[REWARD][0]
    assert_close(alone, bonuses(log, bonus())[chunk["index"][0]], atol=1e-5, rtol=1e-5)


def test_the_sum_along_an_episode_is_as_large_as_returns_of_one(
    bonus: Callable[..., Relabeler],
) -> None:
    log = episode_log(discrete=True)
    sums = discounted_sums(
        bonuses(log, bonus(coefficient=1.0)), log.column("step") == 0, discount=0.99
    )
    assert sums.std(correction=0).item() == pytest.approx(1.0, abs=1e-4)


def test_a_fixed_log_takes_a_penalty_only(bonus: Callable[..., Relabeler]) -> None:
    log = episode_log(discrete=True)
    with pytest.raises(ValueError, match="rewards what the log rarely shows.*sign to 'penalty'"):
        OfflineDataModule(log, [bonus()])
    OfflineDataModule(log, [bonus(sign="penalty")])
    OfflineDataModule(log, [bonus(coefficient=0.0)])


def test_a_written_log_takes_a_penalty_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CountBonus rewards what the log rarely shows"):
        write_relabeled(episode_log(), [CountBonus()], tmp_path / "bonus")
    assert not (tmp_path / "bonus").exists()
    write_relabeled(episode_log(), [CountBonus(sign="penalty")], tmp_path / "penalty")


def test_new_goals_may_stand_before(bonus: Callable[..., Relabeler]) -> None:
    """The bonus is added to the reward of the new goal, -1 or 0, not to the logged one."""
    log = episode_log(discrete=True, goals=True, task=True)
    chunk, bound = drawn(log, FutureGoal(), bonus(coefficient=1e-6))
    with torch.no_grad():
        found = bound(chunk)[REWARD]
    assert_close(found, found.round(), atol=1e-4, rtol=0)


def test_faulty_arguments_are_refused() -> None:
    log = episode_log()
    for make, message in (
        (lambda: CountBonus(coefficient=-1.0), "coefficient"),
        (lambda: CountBonus(bits=63), r"bits is 63, it must lie in \[1, 62\]"),
        (lambda: RND(share=0.0), "share"),
        (lambda: RND(hidden=()), "at least one layer"),
        (lambda: RND(sign="minus"), "sign is 'minus'"),  # type: ignore[arg-type]
        (lambda: StateMarginalMatching(discount=1.0), "discount"),
        (lambda: DisagreementBonus(members=1), "members"),
        (lambda: CountBonus(columns=[3]).prepare(log), r"columns is \[3\].*from 0 to 2"),
        (lambda: CountBonus(of="step").prepare(log), "real numbers: set of to 'state'"),
        (lambda: StateMarginalMatching(target=[[0.0]]).prepare(log), "centres of 3 numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


# --- counts ---------------------------------------------------------------------------------------


def test_counts_of_cells_by_hand() -> None:
    """Four steps to cell 0, one to cell 2, of width 1: 1/2 and 1."""
    log = line([0.1, 0.2, 2.5, 0.3, 0.9])
    found = bonuses(log, CountBonus(1.0, by="cell", scale=False))
    assert_close(found, torch.tensor([0.5, 0.5, 1.0, 0.5, 0.5]))
    fine = bonuses(log, CountBonus(1.0, by="cell", width=0.1, scale=False))
    assert_close(fine, torch.ones(5))


def test_a_row_is_worth_less_once_its_place_was_seen_again() -> None:
    before = bonuses(line([0.0, 5.0]), CountBonus(1.0, by="cell", scale=False))
    after = bonuses(line([0.0, 5.0, 5.0, 5.0]), CountBonus(1.0, by="cell", scale=False))
    assert before[1] == 1.0 and after[1].item() == pytest.approx(3**-0.5)


def test_steps_are_counted_by_their_action_too() -> None:
    log = line([0.0, 0.0, 0.0])
    columns = {key: log.column(key) for key in log.keys()} | {"action": torch.tensor([0, 1, 0])}
    found = bonuses(
        Log.from_columns(columns, log.info), CountBonus(1.0, by="cell", of="step", scale=False)
    )
    assert_close(found, torch.tensor([2**-0.5, 1.0, 2**-0.5]))


def test_rows_that_may_not_be_drawn_count_nothing() -> None:
    log = line([0.0, 0.0, 0.0, 5.0], [2, 2])
    bound = CountBonus(by="cell").prepare(log.with_rows(torch.tensor([2, 3])))
    assert bound.count.tolist() == [1, 1, 1, 1]


def test_hashes_are_those_of_the_seed() -> None:
    log = episode_log()
    one, again, other = (CountBonus(bits=4, seed=s).prepare(log).count for s in (0, 0, 1))
    assert one.equal(again) and not one.equal(other)
    assert one.max() > 1


# --- a random network -----------------------------------------------------------------------------


def test_what_was_learned_from_is_no_longer_new() -> None:
    """Rows at 0 are learned from for 200 updates: theirs fall far below that of a place apart."""
    log = line([0.0] * 30 + [4.0])
    chunk, bound = drawn(
        log.with_rows(torch.arange(30)),
        RND(learning_rate=1e-2, share=1.0, scale=False, hidden=(16, 16)),
        updates=200,
    )
    before = bonuses(log, RND(scale=False, hidden=(16, 16)))
    bound(chunk)
    part = bound.relabelers[0]
    with torch.no_grad():
        apart, near = (
            float(part._given(chunk[0, :1].clone().set(("next", "observation"), place)))
            for place in (torch.full((1, 1), 4.0), torch.zeros(1, 1))
        )
    assert near < 1e-3 * float(before[0])
    assert apart > 100 * near


def test_a_network_that_knows_gives_nothing() -> None:
    """Predictor = target: the bonus is 0."""
    bound = RND(hidden=(8, 8), outputs=4, scale=False).prepare(line([0.0, 1.0, 3.0]))
    bound.net.predictor = copy.deepcopy(bound.net.target).requires_grad_(True)
    chunk, _ = drawn(line([0.0, 1.0, 3.0]))
    with torch.no_grad():
        assert bound(chunk)[REWARD].equal(chunk[REWARD])


def test_only_the_predictor_learns() -> None:
    chunk, bound = drawn(episode_log(), EVERY["RND"]())
    part = bound.relabelers[0]
    fixed = [weight.clone() for weight in part.net.target.parameters()]
    bound(chunk)
    assert all(torch.equal(a, b) for a, b in zip(fixed, part.net.target.parameters(), strict=True))
    assert float(part.metrics["bonus_loss"]) > 0


# --- ensembles ------------------------------------------------------------------------------------


def test_a_member_learns_from_the_rows_of_its_bootstrap_alone() -> None:
    chunk, bound = drawn(episode_log(), EVERY["disagreement"](), updates=1)
    part, rows = bound.relabelers[0], chunk[0]
    counts = episode_weights(rows["index"], 3, "rows of a bonus")
    out = rows[counts[1] == 0]
    assert 0 < len(out) < len(rows)
    slopes = torch.autograd.grad(part._loss(out).sum(), part.weights, allow_unused=True)
    of_member = len(part.weights) // 3
    moved = [bool(slope.any()) for slope in slopes]
    assert not any(moved[of_member : 2 * of_member])
    assert any(moved[:of_member]) and any(moved[2 * of_member :])


def test_information_does_not_look_at_noise() -> None:
    """Steps to the left are noise, to the right they were hardly tried: only these say much."""
    generator = torch.Generator().manual_seed(0)
    count = 400
    action = (torch.arange(count) % 40 == 0).long()
    noise = torch.randn(count, generator=generator)
    place = torch.where(action == 1, 3.0, noise)
    log = line(place.tolist())
    columns = {key: log.column(key) for key in log.keys()}
    columns |= {"action": action, "observation": torch.zeros(count, 1)}
    log = Log.from_columns(columns, log.info)
    options: dict[str, Any] = {"hidden": (32,), "learning_rate": 5e-3, "scale": False}
    chunk, bound = drawn(log, DisagreementBonus(kind="information", **options), updates=300)
    bound(chunk)
    found = bound.relabelers[0]._given(chunk.reshape(-1))
    said = bound.relabelers[0]._said(chunk.reshape(-1))[1].mean((0, -1))
    left = chunk["action"].reshape(-1) == 0
    assert said[left].mean() > said[~left].mean() + 1.0  # it knows which is noise
    assert found[left].mean() < 0.2


def test_a_fitted_model_stays_as_it_is() -> None:
    log = episode_log()
    spec = OfflineDataModule(log).spec
    model = Dynamics(spec, network=Network(hidden=(8,)), members=3, elites=2, termination="none")
    chunk, bound = drawn(log, DisagreementBonus(model=model, columns=[0, 2], scale=False))
    assert not bound.relabelers[0].learns
    said = model.ensemble(chunk["observation"], chunk["action"]).mean[..., [0, 2]]
    added = bound(chunk)[REWARD] - chunk[REWARD]
    assert_close(added, said.var(0, correction=0).mean(-1), atol=1e-5, rtol=1e-4)
    assert bound.state_dict() == {}


def test_a_learner_of_something_else_is_refused() -> None:
    spec = OfflineDataModule(episode_log()).spec
    with pytest.raises(ValueError, match="BC is no ensemble of models: give a checkpoint"):
        DisagreementBonus(model=BC(spec))  # type: ignore[arg-type]


# --- densities ------------------------------------------------------------------------------------


def test_a_lonely_place_is_worth_its_density() -> None:
    """Kernels so narrow that each counts alone: rho is 3/4 and 1/4, the difference log 3."""
    log = line([0.0, 0.0, 0.0, 9.0])
    found = bonuses(log, StateMarginalMatching(bandwidth=0.1, scale=False))
    assert (found[3] - found[0]).item() == pytest.approx(torch.log(torch.tensor(3.0)).item())


def test_a_target_is_where_to_be() -> None:
    """With as many rows at each place the reward differs by log p* alone: half the squared gap."""
    log = line([0.0, 4.0, 0.0, 4.0])
    options: dict[str, Any] = {"bandwidth": 0.1, "scale": False, "target": [[4.0]], "spread": 2.0}
    found = bonuses(log, StateMarginalMatching(**options))
    assert (found[1] - found[0]).item() == pytest.approx(0.5 * (4.0 / 2.0) ** 2, abs=1e-4)


# --- state ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LEARNED)
def test_goes_on_from_its_state_bit_by_bit(name: str) -> None:
    log = episode_log(discrete=True)
    chunk, straight = drawn(log, EVERY[name](), updates=6)
    whole = straight(chunk)
    _, first = drawn(log, EVERY[name]())
    first(chunk[:2])
    _, second = drawn(log, EVERY[name](seed=5))
    second.load_state_dict(first.state_dict())
    assert same(second(chunk[2:4]), whole[2:4]) and same(second(chunk[4:]), whole[4:])
    assert differences(straight.state_dict(), second.state_dict()) == []


@pytest.mark.parametrize("name", LEARNED)
def test_validation_teaches_nothing(name: str) -> None:
    chunk, bound = drawn(episode_log(discrete=True), EVERY[name]())
    with torch.inference_mode():
        bound(chunk.clone())
    assert bound.state_dict() == {}


def test_a_state_of_another_network_is_refused() -> None:
    log = episode_log()
    chunk, first = drawn(log, EVERY["RND"]())
    first(chunk)
    _, second = drawn(log, RND(hidden=(4,)))
    with pytest.raises(ValueError, match="set columns, hidden and outputs of RND as in the run"):
        second.load_state_dict(first.state_dict())


@pytest.mark.parametrize("name", ["counts", "RND"])
def test_rounds_find_it_anew_and_a_resume_is_exact(name: str, tmp_path: Path) -> None:
    def begun() -> tuple[IteratedDataModule, SAC]:
        data = IteratedDataModule(
            "Pendulum-v1",
            [EVERY[name]()],
            collection=Collection(1, 1, max_episode_steps=12, num_envs=1),
            batch_size=16,
            updates_per_step=4,
            seed=3,
        )
        return data, learner_of(SAC, data.spec)

    (data, learner), (other, again) = begun(), begun()
    fit(learner, data, tmp_path, 20).save_checkpoint(tmp_path / "twenty.ckpt")
    straight, last = begun()
    fit(last, straight, tmp_path, 40)
    fit(again, other, tmp_path, 40, ckpt_path=tmp_path / "twenty.ckpt")
    assert equal(weights(last), weights(again))
    assert differences(straight.relabel.state_dict(), other.relabel.state_dict()) == []
    part = straight.relabel.relabelers[0]
    assert len(straight.history) >= 3
    if name == "counts":
        assert len(part.count) == len(straight.log)
    else:
        assert len(part._unit._first) == len(straight.log)
