"""The fast way to one action: buffers bound to the session once."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.export.given import Given, all_finite
from hindsight_rl.export.signature import Signature

Array = NDArray[Any]


class FastWay:
    """The fast way: one row in bound buffers, for a policy without any state."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        observation: Given,
        task: Given | None,
        signature: Signature,
    ) -> None:
        self.shape = observation.shape
        self._session, self._observation, self._task = session, observation, task
        self._discrete = signature.action.discrete
        buffers = {
            name: np.zeros((1, *shape), dtype=dtype)
            for name, (dtype, shape) in signature.outputs().items()
        }
        self._action = buffers["action"][0, ...]
        # What must be finite: an argmax over NaN is a choice like any other.
        self._judged = [
            (value[0], np.empty(value[0].shape, dtype=np.bool_), name)
            for name, value in buffers.items()
            if value.dtype == np.float32
        ]
        self._binding = session.io_binding()
        for given in (observation, task):
            if given is not None:
                value = onnxruntime.OrtValue.ortvalue_from_numpy(given.buffer)
                self._binding.bind_ortvalue_input(given.name, value)
        for name, buffer in buffers.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(buffer)
            self._binding.bind_ortvalue_output(name, value)

    def act(self, observation: Array, task: ArrayLike | None) -> Any:
        """Return the action for one observation."""
        self._observation.write(observation)
        if self._task is not None:
            self._task.write(self._task.default if task is None else np.asarray(task))
        elif task is not None:
            raise ValueError("this policy takes no task, and one was given")
        self._session.run_with_iobinding(self._binding)
        for row, flags, name in self._judged:
            if not all_finite(row, flags):
                raise overflow(row, name)
        return int(self._action) if self._discrete else self._action.copy()


def overflow(answer: Array, name: str) -> ValueError:
    """Return the error for an output of the graph that is not finite."""
    what = "" if name == "action" else f"{name} "
    value = answer[~np.isfinite(answer)][0]
    return ValueError(
        f"the policy answered {what}{value}: the observation is finite, but so far from the log's "
        "that the network overflows (check its units), or the weights are damaged ('hindsight "
        "export --verify' checks them)."
    )
