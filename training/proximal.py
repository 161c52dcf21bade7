"""The loss of a policy that climbs advantages and stays near the one that collected."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.maths.policy_gradient import clipped_surrogate, kl_k3

_EXCESS = 1.5  # of the target, from which the KL is too large


class Proximal(NamedTuple):
    """The clipped surrogate with its entropy bonus, and when the policy rests.

    Attributes:
        clip: Ratios beyond [1 - clip, 1 + clip] gain nothing; in (0, 1), ``None`` for no clip.
        entropy_weight: Of the policy's entropy, at least 0.
        target_kl: The policy rests where its batch is 1.5 times as far from the policy that
            collected, nats, above 0; ``None`` for never.
    """

    clip: float | None
    entropy_weight: float
    target_kl: float | None

    def check(self) -> None:
        """Check the arguments.

        Raises:
            ValueError: One is out of range.
        """
        check_ranges(within("(0, 1)", clip=self.clip), note=" or null")
        check_ranges(above(0, target_kl=self.target_kl), note=" or null")
        check_ranges(at_least(0, entropy_weight=self.entropy_weight))

    def loss(
        self,
        log_ratio: Tensor,
        entropy: Tensor,
        advantage: Tensor,
        batch_mean: Callable[[Tensor], Tensor],
        weight: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss ``[]``, and its metrics.

        Args:
            log_ratio: ``[B]``, log pi - log pi_old of the actions, nats; or ``[B, L]`` of segments,
                0 where a step does not count.
            entropy: Of pi, nats, in the same shape.
            advantage: Likewise.
            batch_mean: Returns the mean over the batch of all ranks.
            weight: ``[B, L]``, 0 where a step does not count; ``None``: rows are single steps.

        Returns:
            Loss and metrics.
        """

        def of_rows(value: Tensor) -> Tensor:
            return value if weight is None else (weight * value).sum(-1)

        ratio, kl = log_ratio.exp(), batch_mean(of_rows(kl_k3(log_ratio)))
        rows = clipped_surrogate(ratio, advantage, clip=self.clip)
        loss = of_rows(rows - self.entropy_weight * entropy).mean()
        if self.target_kl is not None:
            loss = loss * (kl <= _EXCESS * self.target_kl).to(loss.dtype)
        off = (ratio.detach() - 1.0).abs()
        metrics = {"kl": kl, "entropy": of_rows(entropy.detach()).mean(), "ratio_off": off.amax()}
        if self.clip is not None:
            metrics["beyond_clip"] = of_rows((off > self.clip).to(off.dtype)).mean()
        return loss, metrics
