"""Policy: observation (and task) in, a distribution of actions out; normalisation included.

Every network standardises its inputs with the statistics in the spec, which are buffers and travel
with the checkpoint and the exported graph. A task is one more input, not another class.
"""

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.cloning import Density
from hindsight_rl.nets.distributions import Distribution, Drawable, Stated
from hindsight_rl.nets.encoders.decision import DecisionInputs
from hindsight_rl.nets.encoders.entries import EntryInputs, Observation, make_inputs
from hindsight_rl.nets.encoders.history import AttentionInputs, HistoryInputs, Past
from hindsight_rl.nets.encoders.recurrent import RecurrentInputs
from hindsight_rl.nets.encoders.vector import GatedInputs, Inputs
from hindsight_rl.nets.heads.family import Chosen, family_of
from hindsight_rl.nets.layers import activation_of, mlp
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.spec import WHOLE, Spec

Memory = HistoryInputs | AttentionInputs | RecurrentInputs | DecisionInputs
"""What encodes the past beside the present: called with observation, task and past."""


class Policy(nn.Module):
    """pi(a | s) or pi(a | s, task).

    Args:
        spec: The data's spec; discrete actions always get a categorical head.
        network: Inputs and hidden layers.
        head: Family of distributions for continuous actions, or its kind.
        memory: Encodes the past beside the present, in the place of the network's inputs; ``None``
            for a policy of the present alone.

    Raises:
        ValueError: Network or head do not go with the spec, or with memory.
    """

    _entries: Tensor

    def __init__(
        self,
        spec: Spec,
        network: Network = Network(),
        *,
        head: HeadKind | Head = "gaussian",
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        if memory is not None and network.gate_task:
            raise ValueError("gate_task and a memory do not go together: leave one of them out")
        self.inputs: Inputs | EntryInputs | GatedInputs | Memory
        if memory is None:
            self.inputs, hidden = make_inputs(spec, network)
        else:
            self.inputs, hidden = memory, network.hidden
        self.remembers, self._whole = memory is not None, spec.whole is not None
        self.scale = ActionScale(spec.action)
        self.discrete = self.scale.discrete
        self.head = head = Head.of(head)
        self.squash_mean = head.squash_mean and self.scale.bounded and head.relative_to is None
        if head.exploration is not None and not (
            head.kind == "deterministic" and self.scale.bounded
        ):
            raise ValueError(
                "exploration needs head 'deterministic' and action bounds: give action_low and "
                "action_high"
            )
        self.width: int = spec.action.width
        self.family = family_of(head, spec.action, self.scale)
        self.net = mlp(self.inputs.width, hidden, self.family.outputs, activation_of(network))
        self.family.start(cast(nn.Linear, self.net[-1]))
        if head.relative_to is not None:
            self._start_from_observation(head.relative_to, spec.vector.width)
        self.log_std: nn.Parameter | None = None
        if self.family.shared_spread:
            self.log_std = nn.Parameter(torch.zeros(self.width))

    @property
    def density(self) -> Density:
        """What :meth:`log_prob` is: the exact log-density, or an error in its place."""
        return self.family.density

    @property
    def kind(self) -> str:
        """The kind of its head, for messages."""
        return "categorical" if self.discrete else self.head.kind

    @property
    def acting_noise(self) -> int:
        """Normal numbers that an acting step needs; 0 for none."""
        return self.family.acting_noise

    @property
    def drawing_noise(self) -> int:
        """Normal numbers that make an action in :meth:`draw`."""
        return self.family.noise_width

    @property
    def row_noise(self) -> int:
        """Normal numbers that the loss of a row needs: none."""
        return 0

    def _start_from_observation(self, chosen: Sequence[int], observed: int) -> None:
        if self.discrete or not self.family.relative:
            raise ValueError("relative_to needs continuous actions and an unsquashed, single head")
        if len(chosen) != self.width or not all(0 <= entry < observed for entry in chosen):
            raise ValueError(
                f"relative_to is {list(chosen)}: give {self.width} entries of the observation, "
                f"one per action dimension, each in [0, {observed})"
            )
        # The compiler cannot make an index out of a list within a loop over updates.
        self.register_buffer("_entries", torch.tensor(chosen), persistent=False)
        # Start close to "stay where you are".
        with torch.no_grad():
            weight, bias = self.net[-1].parameters()
            weight.mul_(0.01)
            bias.zero_()

    def forward(
        self, observation: Observation, task: Tensor | None = None, past: Past | None = None
    ) -> Distribution:
        """Return the distribution of actions in policy units.

        Args:
            observation: ``[..., O]``, or ``[..., *shape]`` by entry.
            task: ``[..., Z]`` where the spec has a task.
            past: The last P steps, for a policy with a history.

        Returns:
            The distribution, batch shape ``[...]``.
        """
        if self._whole and not isinstance(observation, Tensor):
            observation = observation[WHOLE]  # beside it stands what critics alone read
        if self.remembers:
            features = self.inputs(observation, task, past)
        else:
            features = self.inputs(observation, task)
        return self.distribution(features, observation)

    def distribution(self, features: Tensor, observation: Observation) -> Distribution:
        """Return the distribution of actions in policy units, given the features of the inputs.

        Args:
            features: ``[..., D]``.
            observation: ``[..., O]``, where the mean may start from.

        Returns:
            The distribution, batch shape ``[...]``.
        """
        place = partial(self._place, observation=observation)
        found: Distribution = self.family(self.net(features), place, self.log_std)
        return found

    def _place(self, mean: Tensor, observation: Observation) -> Tensor:
        if self.head.relative_to is not None and isinstance(observation, Tensor):
            return self.scale.to_policy(observation.index_select(-1, self._entries)) + mean
        return torch.tanh(mean) if self.squash_mean else mean

    def log_prob(
        self, observation: Observation, action: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """Return the log-probability of logged actions.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[...]``, nats, in policy units.
        """
        log_prob: Tensor = self(observation, task).log_prob(self.scale.to_policy(action))
        return log_prob

    def executed_log_prob(
        self, observation: Observation, action: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """Return the log-probability of executed actions, as the column ``action_log_prob`` has it.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[...]``, nats: in environment units, and at a bound to which actions are clipped the
            mass of what is clipped to it. See :mod:`hindsight_rl.maths.executed`.
        """
        return self.executed(self(observation, task), action)

    def executed(
        self,
        distribution: Distribution,
        action: Tensor,
        low: Tensor | None = None,
        high: Tensor | None = None,
    ) -> Tensor:
        """Return the log-probability of executed actions under a distribution of this policy.

        Args:
            distribution: Of this policy.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            low: ``[A]``, bound of the environment beside that of the spec.
            high: ``[A]``, likewise.

        Returns:
            ``[...]``, nats, see :meth:`executed_log_prob`.
        """
        if self.discrete:
            return distribution.log_prob(action)
        return cast(Stated, distribution).executed(action, self.scale.units(low, high))

    def unstated(self, low: Tensor, high: Tensor, *, mixed: bool) -> str:
        """Return why the probability of drawn actions as executed is not known.

        Args:
            low: ``[A]``, bound of the environment beside that of the spec.
            high: ``[A]``, likewise.
            mixed: Whether a share of the actions is drawn uniformly between these bounds instead.

        Returns:
            The end of a sentence; "" where it is known.
        """
        if self.discrete:
            return ""
        units = self.scale.units(low, high)
        # Uniform draws would have a density where the policy's actions are clipped to a bound.
        tighter = mixed & ((units.low > low) | (units.high < high)) | (units.low > units.high)
        if bool(tighter.any()):
            return "the environment has other action bounds than the policy"
        return self.family.unstated(units)

    def row_loss(
        self,
        observation: Observation,
        action: Tensor,
        task: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return what imitating each action costs, minus :meth:`log_prob`; see :class:`Clones`.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            task: ``[..., Z]`` where the spec has a task.
            noise: Not used.

        Returns:
            ``[...]``.
        """
        return -self.log_prob(observation, action, task)

    def draw(
        self, observation: Observation, noise: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the actions that normal noise makes, differentiable, and their log-probabilities.

        Args:
            observation: ``[..., O]``.
            noise: ``[..., drawing_noise]`` normal numbers; dimensions before those of the
                observation mean several actions per state.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., A]`` in environment units, and ``[...]`` nats, in policy units.
        """
        action, log_prob = cast(Drawable, self(observation, task)).act_on(noise)
        return self.scale.to_environment(action), log_prob

    def chosen(self, distribution: Distribution, noise: Tensor | None = None) -> Chosen:
        """Return the action that is taken, and what it is the argmax of.

        Args:
            distribution: Of this policy.
            noise: ``[..., acting_noise]`` standard normal; without it the likeliest action.

        Returns:
            ``[..., A]`` in environment units (or int64 ``[...]``), with its scores.
        """
        action, scores = self.family.act(distribution, noise)
        return Chosen(self.scale.to_environment(action), scores)

    def mode(
        self, observation: Observation, task: Tensor | None = None, past: Past | None = None
    ) -> Tensor:
        """Return the likeliest action ``[..., A]`` in environment units (or int64 ``[...]``)."""
        return self.chosen(self(observation, task, past)).action
