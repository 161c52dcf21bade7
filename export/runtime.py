"""The runtime: an exported policy played with numpy and onnxruntime, without PyTorch.

A single observation takes the fast way: it is written into a buffer bound to the session once, so
that a call costs no allocation but its answer and is not slower than the bare ``InferenceSession``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.export.contract import Contract, ContractError
from hindsight_rl.export.modelfile import MAX_BYTES, read_model, read_policy

_ONNX_TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)"}


class OnnxPolicy:
    """A policy file that ``hindsight export`` wrote, ready to act.

    The file is read once into memory and checked: one contract of a known version, no external
    data, weights and graph as exported. One policy serves one thread at a time, because the fast
    way reuses its buffers; open one policy per thread.

    Args:
        path: The policy file.
        threads: Threads inside one operator. One is fastest for the small networks of control.
        max_bytes: Largest file accepted.

    Raises:
        ContractError: The file must not be run as it stands.
        ValueError: ``threads`` is below 1.
    """

    def __init__(self, path: str | Path, *, threads: int = 1, max_bytes: int = MAX_BYTES) -> None:
        self.contract: Contract
        """What the file says about itself; see ``hindsight_rl.export.contract``."""
        self.contract, graph = read_policy(read_model(path, max_bytes=max_bytes), path)
        self._session = open_session(graph, self.contract, path, threads=threads)
        self._observation = _Input("observation", self.contract["observation"])
        task = self.contract["task"]
        self._task = None if task is None else _Input("task", task)
        action = self.contract["action"]
        self._action = np.zeros((1, *action["shape"]), dtype=action["dtype"])
        self._row = self._action[0] if action["shape"] else None
        # What must be finite: an argmax over NaN is a choice like any other.
        self._judged = self._row
        self._outputs = ["action"]
        if self._row is None:
            self._scores = np.zeros((1, action["n"]), dtype=np.float32)
            self._judged = self._scores[0]
            self._outputs = ["action", "scores"]
        self._flags = np.empty(self._judged.shape, dtype=np.bool_)
        self._binding = self._bind()

    def act(self, observation: ArrayLike, task: ArrayLike | None = None) -> Any:
        """Return the action for one observation, or one action per row of a batch.

        Real numbers of any width are accepted and cast to float32; integers and flags are refused,
        because raw counts or pixels are rarely what a policy was fitted to.

        Args:
            observation: ``[O]``, or a batch ``[N, O]``, in the units of the contract.
            task: ``[Z]``, or ``[N, Z]`` for a batch; needed if the contract has a task without a
                default, refused if it has none.

        Returns:
            Continuous: ``[A]`` float32 (``[N, A]``), in the units and bounds of the contract, an
            array of its own. Discrete: an ``int``, or ``[N]`` int64, in the environment's numbers
            (the contract's ``start`` is the first).

        Raises:
            ValueError: Shape, type or finiteness of an input break the contract; or the answer is
                not finite.
        """
        observation = np.asarray(observation)
        if observation.shape != self._observation.shape:
            return self._act_batch(observation, task)
        self._observation.write(observation)
        if self._task is not None:
            self._task.write(self._task.default if task is None else np.asarray(task))
        elif task is not None:
            raise ValueError("this policy takes no task, and one was given")
        self._session.run_with_iobinding(self._binding)
        if not _all_finite(self._judged, self._flags):
            raise self._overflow(self._judged)
        return int(self._action[0]) if self._row is None else self._row.copy()

    def reset(self) -> None:
        """Forget the episode so far: call it wherever an episode starts.

        The policies of this release are functions of one observation and hold no state, so nothing
        happens; a loop that calls it is ready for policies that do.
        """

    def rate_limited(
        self, action: ArrayLike, last: ArrayLike | None, *, seconds: float | None = None
    ) -> Any:
        """Return the action nearest to the wanted one that the contract's rate limit allows.

        The graph does not know the last command, so the loop that sends commands calls this.

        Args:
            action: ``[..., A]``, what :meth:`act` returned.
            last: ``[..., A]``, the command sent before; ``None`` at an episode's first step, where
                any action is allowed.
            seconds: Time since then; a step at the contract's control rate if ``None``.

        Returns:
            ``[..., A]`` float32; the action itself where the contract states no limit, and for
            choices, which have no rate.

        Raises:
            ValueError: Neither a control rate nor ``seconds`` is known, or ``seconds`` is not
                positive.
        """
        limits = self.contract["action"].get("rate_limit")
        if limits is None or last is None:
            return action
        rate = self.contract["control_rate_hz"]
        wanted = np.asarray(action, dtype=np.float32)
        if seconds is None and rate is None:
            raise ValueError("the contract states no control rate: give the seconds of a step")
        seconds = 1.0 / rate if seconds is None else seconds
        if not seconds > 0.0:
            raise ValueError(f"seconds is {seconds}, and must be positive")
        step = [np.inf if limit is None else limit * seconds for limit in limits]
        before = np.asarray(last, dtype=np.float64)
        allowed = np.clip(wanted, before - step, before + step)
        return allowed.astype(np.float32)

    def _act_batch(self, observation: NDArray[Any], task: ArrayLike | None) -> NDArray[Any]:
        """Return one action per row."""
        feed = {"observation": self._observation.batch(observation)}
        rows = len(feed["observation"])
        if self._task is not None:
            given = self._task.default if task is None else np.asarray(task)
            feed["task"] = self._task.batch(given, rows)
        elif task is not None:
            raise ValueError("this policy takes no task, and one was given")
        answers: list[NDArray[Any]] = self._session.run(self._outputs, feed)
        if not np.isfinite(answers[-1]).all():
            raise self._overflow(answers[-1])
        return answers[0]

    def _bind(self) -> onnxruntime.IOBinding:
        """Return a binding of the session to the buffers of one row."""
        binding = self._session.io_binding()
        for slot in (self._observation, self._task):
            if slot is not None:
                value = onnxruntime.OrtValue.ortvalue_from_numpy(slot.buffer)
                binding.bind_ortvalue_input(slot.name, value)
        for name in self._outputs:
            buffer = self._action if name == "action" else self._scores
            value = onnxruntime.OrtValue.ortvalue_from_numpy(buffer)
            binding.bind_ortvalue_output(name, value)
        return binding

    def _overflow(self, answer: NDArray[Any]) -> ValueError:
        """Return the error for an answer that is not finite."""
        what = "" if len(self._outputs) == 1 else f"{self._outputs[-1]} "
        value = answer[~np.isfinite(answer)][0]
        return ValueError(
            f"the policy answered {what}{value}: the observation is finite, but so far from the "
            "log's that the network overflows (check its units), or the weights are damaged "
            "('hindsight export --verify' checks them)."
        )


class _Input:
    """One input of the graph: what the contract says of it, and the buffer of one row."""

    def __init__(self, name: str, entry: Mapping[str, Any]) -> None:
        self.name = name
        self.shape = tuple(entry["shape"])
        self.buffer = np.zeros((1, *self.shape), dtype=np.float32)
        self._names = entry.get("names")
        self._default = entry.get("default")
        self._row = self.buffer[0]
        self._flags = np.empty(self.shape, dtype=np.bool_)

    @property
    def default(self) -> NDArray[np.float32]:
        """The value used when none is given.

        Raises:
            ValueError: The contract states none.
        """
        if self._default is None:
            raise ValueError(
                f"this policy takes a {self.name} {list(self.shape)} and has no default: give one"
            )
        return np.array(self._default, dtype=np.float32)

    def write(self, value: NDArray[Any]) -> None:
        """Copy one row into the buffer, checked."""
        if value.dtype.kind != "f" or value.shape != self.shape:
            raise self._mismatch(value)
        self._row[...] = value
        if not _all_finite(self._row, self._flags):
            raise self._not_finite(self.buffer)

    def batch(self, value: NDArray[Any], rows: int | None = None) -> NDArray[np.float32]:
        """Return a checked batch ``[N, ...]``; one row is repeated if ``rows`` asks for more."""
        if rows is not None and value.shape == self.shape:
            value = np.broadcast_to(value, (rows, *self.shape))
        wrong_rows = value.ndim == 0 or len(value) != (len(value) if rows is None else rows)
        if value.dtype.kind != "f" or value.shape[1:] != self.shape or wrong_rows:
            raise self._mismatch(value, rows)
        if value.ndim != len(self.shape) + 1 or len(value) == 0:
            raise self._mismatch(value, rows)
        array = np.ascontiguousarray(value, dtype=np.float32)
        if not np.isfinite(array).all():
            raise self._not_finite(array)
        return array

    def _mismatch(self, value: NDArray[Any], rows: int | None = None) -> ValueError:
        """Return the error for a wrong type or shape."""
        if value.dtype.kind != "f":
            return ValueError(
                f"{self.name} has dtype {value.dtype}, and this policy takes float32. "
                f"If its units are right, convert it: {self.name}.astype(numpy.float32)."
            )
        size, batch = list(self.shape), ["N" if rows is None else rows, *self.shape]
        wanted = f"{size} or {batch}".replace("'", "")
        return ValueError(
            f"{self.name} has shape {list(value.shape)}, and this policy takes {wanted}"
        )

    def _not_finite(self, array: NDArray[np.float32]) -> ValueError:
        """Return the error for NaN or infinity, naming the first entry at fault."""
        row, *place = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
        named = len(place) == 1 and self._names is not None
        name = f" ('{self._names[place[0]]}')" if named and self._names else ""
        where = f"[{row}]" if len(array) > 1 else ""
        return ValueError(
            f"{self.name}{where}{place}{name} is {array[(row, *place)]}, and a policy takes finite "
            "numbers. Mend the sensor or stop; do not act on it."
        )


def _all_finite(row: NDArray[np.float32], flags: NDArray[np.bool_]) -> bool:
    """Return whether a row is free of NaN and infinity; ``flags`` is room to work in.

    A third of the time of ``np.isfinite(row).all()``, which matters at every step of a robot.
    """
    np.isfinite(row, flags)
    return int(np.count_nonzero(flags)) == flags.size


def open_session(
    data: bytes, contract: Contract, path: str | Path, *, threads: int = 1
) -> onnxruntime.InferenceSession:
    """Return a session on the CPU whose inputs and outputs are those of the contract.

    Args:
        data: The file's bytes.
        contract: Its contract.
        path: Where the bytes came from, for messages.
        threads: Threads inside one operator.

    Returns:
        The session.

    Raises:
        ContractError: onnxruntime refuses the graph, or the graph differs from the contract.
        ValueError: ``threads`` is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}, and must be at least 1")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class but this one.
        raise ContractError(
            f"{path}: onnxruntime {onnxruntime.__version__} refuses it ({error}). "
            "If it names the opset, export with a lower --opset or install a newer onnxruntime."
        ) from error
    _check_signature(session, contract, path)
    return session


def _check_signature(
    session: onnxruntime.InferenceSession, contract: Contract, path: str | Path
) -> None:
    """Check names, types and row shapes of a session against a contract."""
    wanted = {name: contract[name] for name in ("observation", "task") if contract[name]}
    answers = {"action": contract["action"]}
    if contract["action"]["kind"] == "discrete":
        answers["scores"] = {"shape": [contract["action"]["n"]], "dtype": "float32"}
    for side, entries in ((session.get_inputs(), wanted), (session.get_outputs(), answers)):
        found = {node.name: (node.type, list(node.shape[1:])) for node in side}
        expected = {
            name: (_ONNX_TYPES[entry["dtype"]], list(entry["shape"]))
            for name, entry in entries.items()
        }
        batched = all(not isinstance(node.shape[0], int) for node in side)
        if found != expected or not batched:
            raise ContractError(
                f"{path}: the graph has {found}, and the contract says {expected}, each after a "
                "free batch dimension. The file was changed, or the learner leaves the graph "
                "on its way (numpy, lists, numbers in the place of tensors)."
            )
