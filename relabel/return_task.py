"""Returns as tasks: the command of a row is the return that its episode achieved."""

from typing import Literal

import torch
from tensordict import TensorDict

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import DRAWS, Key
from hindsight_rl.maths.draws import uniform
from hindsight_rl.maths.returns import last_rows, returns_to_go
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.new_tasks import check_fraction, kept_task
from hindsight_rl.relabel.relabeler import Relabeler


class ReturnTask(Relabeler):
    """The task is the return from this step to the end of the episode, this step's reward included.

    With a horizon the steps left are its second number, the present one among them: T - t, which is
    1 in the last step. So the task is the command that the episode fulfilled from here on, and a
    policy cloned under it learns to fulfil its command. Reward and termination stay those of the
    log: they do not depend on the command, and cloning does not read them.

    Args:
        of: ``"return"``, which is also added as ``return_to_go``; or ``"advantage"``, the column of
            that name, from the log or an earlier relabeler (``LinearAdvantage``).
        discount: Of the return, in [0, 1].
        horizon: Add the steps left to the task.
        fraction: Probability that a row is relabeled, in [0, 1]; the rest keep their task.

    Raises:
        ValueError: An argument is out of range; (``prepare``) there is no advantage; (in a batch)
            ``fraction`` is below 1 with no task to keep.

    Reference:
        Kumar et al. 2019, arXiv 1912.13465 (RCP-R, RCP-A); Srivastava et al. 2019,
        arXiv 1912.02877 (upside-down RL: discount 1, with horizon).
    """

    out_keys: tuple[Key, ...] = ("task",)

    def __init__(
        self,
        of: Literal["return", "advantage"] = "return",
        discount: float = 1.0,
        horizon: bool = False,
        fraction: float = 1.0,
    ) -> None:
        super().__init__()
        check_choices(ReturnTask.__init__, locals())
        check_fraction(fraction)
        if not 0 <= discount <= 1:
            raise ValueError(f"discount is {discount}, it must lie in [0, 1]")
        self.of, self.discount, self.horizon, self.fraction = of, discount, horizon, fraction
        self.in_keys = (("next", "reward"),) if of == "return" else ("advantage",)
        self.out_keys = ("task", "return_to_go") if of == "return" else ("task",)

    def prepare(self, log: LogView) -> "ReturnTask":
        """Return a copy that carries the returns, where the task is made of them.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: There is no advantage.
        """
        if self.of == "return":
            value = returns_to_go(
                log.column(("next", "reward")), last_rows(log.column("episode_end")), self.discount
            )
            return self.bound(columns={"return_to_go": value.float()})
        if "advantage" not in log:
            raise ValueError(
                "there is no 'advantage' to become the task: put LinearAdvantage before "
                "ReturnTask, map a column of the log, or take the return"
            )
        return self.bound()

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with its new task."""
        parts = [batch["return_to_go" if self.of == "return" else "advantage"]]
        if self.horizon:
            parts.append((batch["episode_end"] - batch["index"] + 1).float())
        task = torch.stack(parts, dim=-1)
        if self.fraction < 1:
            chosen = uniform(batch[DRAWS], draw=1) < self.fraction
            task = torch.where(chosen.unsqueeze(-1), task, kept_task(batch, task))
        return batch.copy().set("task", task)
