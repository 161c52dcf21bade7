"""CriticWeighted: a critic improves a policy when it acts, without training."""

from typing import Any

import torch
from torch import Tensor, nn

from hindsight_rl.maths.draws import counters, fork, normals
from hindsight_rl.nets.distributions import Categorical
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import Critics, draw_of, several


class CriticWeighted(nn.Module):
    """Acts by pi(a | s) exp(min_k Q_k(s, a) / temperature), normalised over actions.

    Exact for discrete actions. Continuous ones are first drawn from the policy, then one of them by
    the soft-max of their values (sampling, importance resampling). Without draws the same noise
    makes them in every state, and their mean by the soft-max is taken: taking the best would jump
    where two are equally good, and rounding would decide. Policy and critic are given where they
    are used, so that their parameters belong to the learner alone.

    Args:
        width: Normal numbers that make an action.
        candidates: Continuous actions that are valued, m, an odd number: the policy's mode, and
            pairs on opposite sides of it.
        temperature: Reward units, above 0.

    Raises:
        ValueError: ``candidates`` is even or below 1.
    """

    noise: Tensor

    def __init__(self, width: int, *, candidates: int, temperature: float) -> None:
        super().__init__()
        if candidates < 1 or candidates % 2 == 0:
            raise ValueError(
                f"candidates is {candidates}, it must be odd and at least 1: the mode, and pairs "
                "on opposite sides of it"
            )
        rows = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(candidates // 2))[0]
        side = normals(rows, width)
        self.register_buffer("noise", torch.cat([torch.zeros(1, width), side, -side]).unsqueeze(1))
        self.temperature = temperature

    def logits(
        self, policy: Policy, critic: Critics, observation: Observation, task: Tensor | None
    ) -> Tensor:
        """Return the log-probabilities of discrete actions, up to a constant.

        Args:
            policy: The policy.
            critic: ``(observation, action, task) -> [E, ...]``.
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.

        Returns:
            ``[N, n]``.
        """
        value = critic(observation, None, task).amin(0)
        return torch.log_softmax(policy(observation, task).logits, -1) + value / self.temperature

    def mode(
        self, policy: Policy, critic: Critics, observation: Observation, task: Tensor | None
    ) -> Tensor:
        """Return the likeliest of discrete actions, the mean of continuous ones.

        Args:
            policy: The policy.
            critic: ``(observation, action, task) -> [E, ...]``.
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.

        Returns:
            ``[N, A]`` in environment units, or ``[N]`` int64.
        """
        if policy.discrete:
            return self.logits(policy, critic, observation, task).argmax(-1)
        action, _ = policy.draw(observation, self.noise, task)
        value = critic(observation, action, task).amin(0)
        share = torch.softmax(value / self.temperature, 0).unsqueeze(-1)
        # Rounding may carry a mean of actions at a bound beyond it.
        return torch.clamp((share * action).sum(0), policy.scale.low, policy.scale.high)

    def sample(
        self,
        policy: Policy,
        critic: Critics,
        observation: Observation,
        task: Tensor | None,
        draws: Tensor,
    ) -> Tensor:
        """Return one action per state.

        Args:
            policy: The policy.
            critic: ``(observation, action, task) -> [E, ...]``.
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.
            draws: ``[N, 3]`` int64 counters.

        Returns:
            ``[N, A]`` in environment units, or ``[N]`` int64.
        """
        if policy.discrete:
            return Categorical(self.logits(policy, critic, observation, task)).sample(draws)
        noise = normals(fork(draws, "candidates"), self.noise.numel())
        action, _ = policy.draw(observation, several(noise, policy.drawing_noise), task)
        value = critic(observation, action, task).amin(0)
        return draw_of(action, value, draws, temperature=self.temperature)


class Cloned(nn.Module):
    """Acts by the policy itself; critics are not asked."""

    def __init__(self) -> None:
        super().__init__()
        nn.Module.register_load_state_dict_pre_hook(self, _without_noise)

    def logits(
        self, policy: Policy, critic: Critics, observation: Observation, task: Tensor | None
    ) -> Tensor:
        """Return the log-probabilities of discrete actions up to a constant, ``[N, n]``."""
        found: Tensor = policy(observation, task).logits
        return found

    def mode(
        self, policy: Policy, critic: Critics, observation: Observation, task: Tensor | None
    ) -> Tensor:
        """Return the likeliest action, ``[N, A]`` in environment units, or ``[N]`` int64."""
        return policy.mode(observation, task)

    def sample(
        self,
        policy: Policy,
        critic: Critics,
        observation: Observation,
        task: Tensor | None,
        draws: Tensor,
    ) -> Tensor:
        """Return one action per state, ``[N, A]`` in environment units, or ``[N]`` int64."""
        return policy.scale.to_environment(policy(observation, task).sample(draws))


def _without_noise(module: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    """Leave out the noise of candidates, which older checkpoints hold though none is valued."""
    weights.pop(f"{prefix}noise", None)


def acting(policy: Policy, *, candidates: int, temperature: float) -> CriticWeighted | Cloned:
    """Return what makes actions of a policy and critics.

    Args:
        policy: What draws them.
        candidates: Continuous actions that are valued, an odd number; 0 for the policy itself.
        temperature: Reward units, above 0.

    Returns:
        A critic-weighted policy, or the policy itself.

    Raises:
        ValueError: ``candidates`` is even, but not 0, or below 0; or the policy has several
            answers, whose mean is none.
    """
    head = policy.head
    if policy.acting_noise:
        raise ValueError(
            f"acting '{head.acting}' needs noise, and critics choose without: use acting 'mode'"
        )
    if candidates == 0:
        return Cloned()
    if not policy.discrete and policy.family.several:
        raise ValueError(
            f"candidates {candidates} are averaged to act, and head '{head.kind}' has several "
            "answers, whose mean is none: set candidates 0"
        )
    return CriticWeighted(policy.drawing_noise, candidates=candidates, temperature=temperature)
