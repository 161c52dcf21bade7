"""Telling an expert's transitions from others: the loss, and the reward that it leaves."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.adversarial import (
    adversarial_reward,
    between,
    discriminator_loss,
    gradient_penalty,
    policy_logit,
)
from hindsight_rl.nets.discriminator import TransitionReward
from hindsight_rl.relabel.learned import summed

Form = Literal["f", "logit", "survive", "end"]


class Seen(NamedTuple):
    """What a discriminator sees of transitions."""

    rows: Tensor
    """``[..., F]``, standardised, of which the last number says whether the state is absorbing."""
    terminated: Tensor
    """``[...]`` bool."""
    log_prob: Tensor
    """``[...]``, of the action under the policy, nats; 0 where the logit does not need it."""

    def at(self, update: int) -> "Seen":
        """Return what is seen in one update of a chunk."""
        return Seen(*(part[update] for part in self))


@dataclass(frozen=True)
class Telling:
    """The loss of a discriminator, and its rewards.

    Behind an end lies the absorbing state, for ever: discount / (1 - discount) discounted steps of
    it count beside each row that ends an episode, in the loss of its side and in its reward.

    Args:
        net: f.
        absorbing: Whether that is so; else nothing lies behind an end.
        discount: In [0, 1).
        reward: Which function of f and log pi the reward is.
        clip: Its largest magnitude, for one step.
    """

    net: TransitionReward
    absorbing: bool
    discount: float
    reward: Form
    clip: float

    @property
    def _ever_after(self) -> float:
        """Discounted number of steps behind an end."""
        return self.discount / (1.0 - self.discount)

    def sides_loss(self, expert: Seen, other: Seen, *, smoothing: float) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy of both sides, and how often it told right.

        Args:
            expert: ``[N]`` rows.
            other: ``[N]`` rows.
            smoothing: Taken from the label of the expert.

        Returns:
            ``[]``, nats, of several processes this one's part of a sum; and a share in [0, 1].
        """
        f, behind = self._with_behind(_joined(expert, other))
        logits = policy_logit(f, torch.cat([expert.log_prob, other.log_prob])).chunk(2)
        loss = f.new_zeros(())
        for logit, seen, is_expert in zip(logits, (expert, other), (True, False), strict=True):
            told = torch.full_like(logit, is_expert, dtype=torch.bool)
            total = discriminator_loss(logit, told, smoothing=smoothing).sum()
            count = total.new_tensor(float(len(logit)))
            if self.absorbing:
                ended = seen.terminated.sum() * self._ever_after
                cost = discriminator_loss(behind, told[:1], smoothing=smoothing).sum()
                total, count = total + ended * cost, count + ended
            loss = loss + total / summed(count)
        right = (logits[0] > 0).float().mean() + (logits[1] < 0).float().mean()
        return loss, right / 2

    def slope_penalty(self, expert: Seen, other: Seen, share: Tensor) -> Tensor:
        """Return the mean penalty of slopes between pairs of rows.

        Args:
            expert: ``[N]`` rows.
            other: ``[N]`` rows.
            share: ``[N]``, of the expert's row in the point between.

        Returns:
            ``[]``; of several processes this one's part of a sum.
        """
        point = between(expert.rows, other.rows, share).requires_grad_()
        f = self.net(point, torch.zeros_like(other.terminated))
        (slope,) = torch.autograd.grad(f.sum(), point, create_graph=True)
        return gradient_penalty(slope).sum() / summed(point.new_tensor(float(len(point))))

    def step_rewards(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return the rewards of the steps themselves ``[N]``, and of one behind an end ``[1]``."""
        f, behind = self._with_behind(seen)
        return self._formed(f, seen.log_prob), self._formed(behind, torch.zeros_like(behind))

    def rewards(self, seen: Seen, steps: tuple[Tensor, Tensor], scale: Tensor) -> Tensor:
        """Return the rewards of rows, with what lies behind an end.

        Args:
            seen: ``[N]`` rows.
            steps: What :meth:`step_rewards` returns.
            scale: ``[]``, divides the reward of a step.

        Returns:
            ``[N]``.
        """
        reward, behind = ((part / scale).clamp(-self.clip, self.clip) for part in steps)
        if not self.absorbing:
            return reward
        return reward + seen.terminated * self._ever_after * behind

    def _with_behind(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return f ``[N]`` of rows and ``[1]`` of the absorbing state, like nothing else."""
        state = torch.zeros_like(seen.rows[:1])
        state[:, -1] = 1.0
        open_ended = torch.zeros_like(seen.terminated[:1])
        f: Tensor = self.net(
            torch.cat([seen.rows, state]), torch.cat([seen.terminated, open_ended])
        )
        return f[:-1], f[-1:]

    def _formed(self, f: Tensor, log_prob: Tensor) -> Tensor:
        if self.reward == "f":
            return f
        return adversarial_reward(policy_logit(f, log_prob), self.reward)


def _joined(one: Seen, two: Seen) -> Seen:
    return Seen(*(torch.cat(parts) for parts in zip(one, two, strict=True)))
