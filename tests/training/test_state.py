"""The state of many copies: where it lies, and that the learner sees the one that is selected."""

import pytest
import torch
from small_fits import data_for, equal, learner_of, weights

from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.marwil import MARWIL
from hindsight_rl.training.update.state import Layout, SeedStates


def test_layout_joins_and_splits() -> None:
    """A matrix, a scalar and a vector: 4 + 1 + 3 numbers in their order."""
    tensors = {
        "matrix": torch.arange(4.0).reshape(2, 2),
        "scalar": torch.tensor(4.0),
        "vector": torch.arange(5.0, 8.0),
    }
    layout = Layout(tensors)
    flat = layout.join(tensors)
    assert flat.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    for name, part in layout.split(flat).items():
        assert torch.equal(part, tensors[name])
    stacked = layout.split(torch.stack([flat, flat + 10]))
    assert stacked["matrix"].shape == (2, 2, 2) and stacked["scalar"].tolist() == [4, 14]


def test_layout_of_nothing_is_empty() -> None:
    layout = Layout({})
    assert layout.join({}).shape == (0,) and layout.split(torch.empty(3, 0)) == {}


@pytest.mark.parametrize("kind", [IQL, MARWIL])
def test_selected_copy_is_what_the_learner_is(kind: type[IQL] | type[MARWIL]) -> None:
    learner = learner_of(kind, data_for(kind).spec)
    before = weights(learner)
    copies = SeedStates.of(learner, 3)
    copies.state.parameters[1] += 1.0
    copies.state.buffers[2] += 1.0
    copies.select(0)
    assert equal(weights(learner), before)
    seen = [weights(learner) for _ in copies.each()]
    assert copies.selected == 0 and equal(weights(learner), before)
    assert equal(seen[0], before) and not equal(seen[1], before)
    assert equal(seen[2], before) == (kind is IQL)  # which has no buffer of its own
    # The learner's tensors are the state itself.
    with torch.no_grad():
        next(iter(learner.actor.parameters())).zero_()
    assert int((copies.state.parameters[0] == 0).sum()) > int(
        (copies.state.parameters[1] == 0).sum()
    )


def test_target_networks_are_not_trained() -> None:
    learner = learner_of(IQL, data_for(IQL).spec)
    copies = SeedStates.of(learner, 1)
    trained, targets, _ = copies.layouts
    assert not any(name.startswith("target_critic.") for name in trained.shapes)
    assert all(name.startswith("target_critic.") for name in targets.shapes)


def test_one_of_several_copies_is_taken() -> None:
    spec = data_for(IQL).spec
    several = SeedStates.of(learner_of(IQL, spec), 2)
    several.write(1, learner_of(IQL, spec, weight_seed=1).state_dict())
    learner = learner_of(IQL, spec, weight_seed=7)
    learner.take_seeds(several.state_dict(), 1)
    assert learner.seed_states is None
    assert equal(weights(learner), weights(learner_of(IQL, spec, weight_seed=1)))
    learner.take_seeds(several.state_dict())
    assert learner.seed_states is not None and learner.seed_states.count == 2
    with pytest.raises(ValueError, match=r"seed index 2: the checkpoint holds seeds 0 to 1"):
        learner.take_seeds(several.state_dict(), 2)


def test_other_number_of_copies_is_refused() -> None:
    learner = learner_of(IQL, data_for(IQL).spec)
    saved = SeedStates.of(learner, 2).state_dict()
    with pytest.raises(ValueError, match=r"holds 2 seeds, this run has 3"):
        SeedStates.of(learner, 3).load_state_dict(saved)
