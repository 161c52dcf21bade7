"""Acts: the side of a learner that acts, in training, in evaluation and in the exported file."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.maths.draws import normals
from hindsight_rl.nets.cloning import Density
from hindsight_rl.nets.encoders.entries import Observation, rows_of
from hindsight_rl.nets.policy import Policy
from hindsight_rl.offsets import relative_inputs
from hindsight_rl.policies.torch_actor import TorchActor
from hindsight_rl.ports import Act, Actor, Decision
from hindsight_rl.spec import Spec
from hindsight_rl.training.drawing import Drawing, on_device
from hindsight_rl.training.drawn_policy import DrawnPolicy, not_drawn
from hindsight_rl.windows import Chunk


class Acts:
    """What a learner does with an observation; every part may be replaced.

    Derive from :class:`hindsight_rl.training.learner.Learner`, not from this class.

    Attributes:
        actor: The policy's network.
        acts: Whether there is a policy; a model, a reward or a classifier has none, and is neither
            played nor exported.
        chunk: How answers of several actions are executed; ``None`` where an answer is one action.
        action_state: Name of the part of the state that holds past actions ``[n, P, ...]``, the
            newest in the last place: where something else was executed than the answer, it is put
            there. ``None`` for none.
        not_exported: Why there is no file of this policy, and what to take instead: the end of a
            sentence, ``""`` where there is one.
    """

    acts: bool = True
    not_exported: str = ""
    actor: Any
    chunk: Chunk | None = None
    action_state: str | None = None
    spec: Spec
    device: torch.device

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the deterministic action: the graph that is exported.

        Args:
            observation: ``[N, O]``, or ``[N, ...]`` by entry.
            task: ``[N, Z]`` where the spec has a task.

        Returns:
            ``[N, A]`` in environment units within the bounds, or ``[N]`` int64 from 0. A policy
            that needs noise answers as if it were zero: a point of reference for errors on held-out
            rows, not a way to act.

        Raises:
            ValueError: There is no policy.
        """
        self._check_acts()
        if self._only_from_noise:
            zero = torch.zeros(rows_of(observation), self.acting_noise, device=self.device)
            return self._first_action(observation, task, zero)
        mode: Tensor = self.actor.mode(observation, task)
        return mode

    def _check_acts(self) -> None:
        if not self.acts:
            name = type(self).__name__
            raise ValueError(f"{name} fits no policy: there are no actions to ask it for")

    @property
    def _only_from_noise(self) -> bool:
        """Return whether there is no distribution to ask: actions are made of noise, by decide."""
        return not isinstance(self.actor, Policy) and self.acting_noise > 0

    def _first_action(self, observation: Observation, task: Tensor | None, noise: Tensor) -> Tensor:
        """Return what noise ``[N, S]`` makes at an episode's first step, the first of a chunk."""
        state = self.initial_state(rows_of(observation))
        action = self.decide(observation, task, state, noise).action
        return action if self.chunk is None else action[:, 0]

    def scores(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return what a discrete policy's argmax is taken of.

        Args:
            observation: ``[N, O]``, or ``[N, ...]`` by entry.
            task: ``[N, Z]`` where the spec has a task.

        Returns:
            ``[N, n]``.
        """
        scores: Tensor = self.distribution(observation, task).logits
        return scores

    def distribution(self, observation: Observation, task: Tensor | None = None) -> Any:
        """Return the distribution of actions, at an episode's first step where steps differ.

        Args:
            observation: ``[N, O]``, or ``[N, ...]`` by entry.
            task: ``[N, Z]`` where the spec has a task.

        Returns:
            The distribution, in policy units.

        Raises:
            ValueError: There is no policy.
        """
        self._check_acts()
        past = self.initial_state(rows_of(observation))
        return self.actor(observation, task, past) if past else self.actor(observation, task)

    def distribution_after(
        self, observation: Observation, task: Tensor | None, state: dict[str, Tensor]
    ) -> tuple[Any, dict[str, Tensor]]:
        """Return the distribution of actions at any step, and what is kept after it.

        Args:
            observation: ``[n, O]``, or ``[n, ...]`` by entry.
            task: ``[n, Z]`` where the spec has a task.
            state: Of :meth:`initial_state`, or what was kept after the last step.

        Returns:
            The distribution, in policy units, and the state; unless a class says otherwise only
            the present counts.
        """
        return self.distribution(observation, task), state

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return what the exported graph answers: actions, and the state after them.

        Args:
            observation: ``[n, O]``, or ``[n, ...]`` by entry.
            task: ``[n, Z]`` where the spec has a task.
            state: Of :meth:`initial_state` or the last decision, ``[n, ...]`` by name; empty where
                nothing is kept.
            noise: ``[n, S]`` standard normal, S being :attr:`acting_noise`; ``None`` where S is 0.

        Returns:
            Actions ``[n, A]`` in environment units within the bounds, chunks of them ``[n, C, A]``,
            or ``[n]`` int64 from 0; the state; and the scores ``[n, M]`` that the action is the
            argmax of, if of any: where two of them are equal, rounding decides. Here the action is
            that of :meth:`forward`.

        Raises:
            ValueError: Noise is needed and missing, or there is no policy.
            NotImplementedError: It is needed, and the learner does not say here what it makes of
                it.
        """
        self._check_acts()
        if self._only_from_noise:
            raise NotImplementedError(f"{type(self).__name__} has acting_noise: define decide")
        if self.spec.action.discrete:
            scores = self.scores(observation, task)
            return Decision(scores.argmax(dim=-1), {}, scores)
        if isinstance(self.actor, Policy) and type(self).forward is Acts.forward:
            chosen = self.actor.chosen(self.actor(observation, task), noise)
            return Decision(chosen.action, {}, chosen.scores)
        return Decision(self.forward(observation, task), {})

    def act(
        self, observation: Observation, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return actions in environment units: the mode, or a sample where draws are given.

        Choices are numbered from 0, as learners do; :attr:`first_choice` makes them the
        environment's.

        Args:
            observation: ``[N, O]``, or ``[N, ...]`` by entry.
            task: ``[N, Z]`` where the spec has a task.
            draws: ``[N, 3]`` int64 counters.

        Returns:
            ``[N, A]``, or ``[N]`` int64.
        """
        self._check_acts()
        if draws is None:
            return self.forward(observation, task)
        if self._only_from_noise:
            return self._first_action(observation, task, normals(draws, self.acting_noise))
        sample = self.distribution(observation, task).sample(draws)
        action: Tensor = self.actor.scale.to_environment(sample)
        return action

    @property
    def acting_noise(self) -> int:
        """Return how many normal numbers :meth:`decide` needs for a row; 0 for none."""
        actor = getattr(self, "actor", None)  # there is none where there is no policy
        return actor.acting_noise if isinstance(actor, Policy) else 0

    @property
    def density(self) -> Density:
        """Return what is known of the probability of an action: all, a lower bound, or nothing."""
        found: Density = getattr(getattr(self, "actor", None), "density", "none")
        return found

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return what is kept from step to step where n episodes begin, ``[n, ...]`` by name."""
        return {}

    @property
    def follows(self) -> bool:
        """Return whether acting takes more than the present: a state, noise, or a queue."""
        return bool(self.chunk or self.acting_noise or self.initial_state(1))

    def player(self) -> Act | Actor:
        """Return what the loop that plays episodes asks: this learner, acting as its file will."""
        self._check_acts()
        return TorchActor(self) if self.follows else self.act_numpy

    def collecting(self, sample: bool) -> Actor:
        """Return what the collector of episodes asks.

        Args:
            sample: Take samples, not the likeliest actions; what follows its rows has noise of its
                own, or none.

        Returns:
            An actor, which states how likely its actions were where that is known: see
            :class:`hindsight_rl.propensities.Stating`.

        Raises:
            ValueError: There is no policy.
        """
        self._check_acts()
        return TorchActor(self) if self.follows else Drawing(self, sample)

    @property
    def draws_its_distribution(self) -> bool:
        """Return whether :meth:`act` draws from :meth:`distribution`; not where it is replaced."""
        return type(self).act is Acts.act and not self._only_from_noise

    def drawn_policy(self) -> DrawnPolicy:
        """Return what is exported where the file draws its actions, as :meth:`collecting` does.

        Returns:
            The policy; it states how likely what it draws is.

        Raises:
            ValueError: There is no policy, or nothing is known of how likely its actions are.
        """
        self._check_acts()
        reason = not_drawn(self)
        if reason:
            raise ValueError(
                f"{type(self).__name__}: a file that draws its actions states how likely they are, "
                f"and here that is not known: {reason}. Leave drawn out, or fit a policy of the "
                "present alone with head 'gaussian', 'laplace', 'tanh_gaussian' or 'mixture'"
            )
        return DrawnPolicy(self)

    @property
    def first_choice(self) -> int:
        """Return the environment's number of what a learner calls action 0; 0 for real numbers."""
        return self.spec.action.start

    def act_numpy(
        self,
        observation: NDArray[np.float32] | Mapping[str, NDArray[Any]],
        task: NDArray[np.float32] | None = None,
    ) -> NDArray[Any]:
        """Return deterministic actions for arrays: what a rollout calls.

        Args:
            observation: ``[n, O]`` float32, or ``[n, ...]`` by entry; float64 where the spec has an
                offset, which is subtracted here.
            task: ``[n, Z]`` float32 or ``None``; likewise.

        Returns:
            ``[n, A]`` float32, or ``[n]`` int64 in the environment's numbers.
        """
        observation, task = relative_inputs(self.spec, observation, task)
        with torch.inference_mode():
            there = on_device(observation, self.device)
            goal = None
            if task is not None:
                goal = torch.as_tensor(task, dtype=torch.float32, device=self.device)
            found: NDArray[Any] = self.forward(there, goal).cpu().numpy()
            return found + self.first_choice
