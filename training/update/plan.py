"""Plan: how the updates of a run are computed, chosen once at its start and kept on resume.

Compiling costs seconds and saves a fraction of a millisecond per update; a second thread helps
large matrix products and hurts small ones; another matrix-product library is faster for some sizes
on some processors, at an error that must be looked at. What is chosen goes into the checkpoint:
another choice rounds in another way.
"""

import os
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from hindsight_rl.attached import datamodule_of
from hindsight_rl.training.update.adam import adam_obstacle
from hindsight_rl.training.update.engine import scan

if TYPE_CHECKING:
    from hindsight_rl.training.module import LearnerModule

Compile = Literal["auto", "off", "losses", "update"]
Chosen = Literal["highest", "high", "medium", "bfloat16"]
Precision = Literal["auto", "highest", "high", "medium", "bfloat16"]

# Compiling takes about as long as this many compiled updates save, large or small: both grow with
# the number of parameters (benchmarks/bench.py prints both).
BREAK_EVEN = 25_000
# Below this many operations, a product is done before a second thread has woken up.
SMALL_PRODUCT = 1_000_000
# An alternative must be faster by this to be taken, so that noise does not choose.
MARGIN = 1.15
# Largest error of a product, as a multiple of float32's own.
LARGEST_ERROR = 8.0


@dataclass(frozen=True)
class Plan:
    """How updates are computed.

    Args:
        compile: What is compiled.
        threads: Threads of an update on the CPU.
        matmul_precision: As ``torch.set_float32_matmul_precision`` knows it, or ``"bfloat16"``: in
            the C++ of an update, nowhere else.
        why_compile: For people.
        why_products: For people.
        shared: Whether the threads share the seeds, with one thread inside each.
    """

    compile: Literal["off", "losses", "update"]
    threads: int
    matmul_precision: Chosen
    why_compile: str = ""
    why_products: str = ""
    shared: bool = False

    def state_dict(self) -> dict[str, Any]:
        """Return the choices as plain values for a checkpoint."""
        return {name: getattr(self, name) for name in ("compile", "threads", "matmul_precision")}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set threads and precision of the process for a while."""
        threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
        inside = 1 if self.shared else self.threads
        if threads != inside:
            torch.set_num_threads(inside)
        if self.matmul_precision != "bfloat16":
            torch.set_float32_matmul_precision(self.matmul_precision)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
            if threads != inside:
                torch.set_num_threads(threads)


def make_plan(
    learner: "LearnerModule", optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]
) -> Plan:
    """Return how the updates of a run are computed: as asked, as before, or as it seems best.

    Args:
        learner: The learner, with a trainer.
        optimizer: Its optimiser.
        saved: The plan of the checkpoint the run goes on from, {} for a new run.

    Returns:
        The plan.

    Raises:
        ValueError: What is asked for cannot be done here.
    """
    obstacle = _obstacle(learner, optimizer)
    together = obstacle or learner.limits.get("seeds", "")
    if learner.seeds > 1 and together:
        raise ValueError(f"seeds is {learner.seeds}: several seeds cannot be trained, {together}")
    compiled: Any = learner.compile_mode
    if compiled == "auto":
        compiled = saved.get("compile", "auto")
    elsewhere = "never measured on this kind of device" if learner.device.type != "cpu" else ""
    missing = "" if compiled == "off" else no_compiler()
    whole = obstacle or learner.limits.get("update", "")
    whole = whole or ("" if learner.device.type == "cuda" else no_scan())  # captured there
    left = learner.trainer.max_steps if learner.trainer.max_steps > 0 else None
    precision: Precision = learner.matmul_precision
    if precision == "auto":
        precision = saved.get("matmul_precision", "auto")
    if precision == "bfloat16":
        why = whole or missing or elsewhere or no_bfloat16(compiled, learner.trainer.precision)
        if why:
            raise ValueError(f"matmul_precision 'bfloat16' cannot be used here: {why}. Use 'auto'")
        compiled = "update"
    chosen, why = choose_compile(compiled, left, whole, missing, elsewhere)
    threads = saved.get("threads") if learner.threads is None else learner.threads
    shared = learner.seeds > 1 and chosen == "update" and not elsewhere
    if shared:
        # Seeds are shared among threads: that always pays, and each has one thread inside.
        threads = threads or min(learner.seeds, torch.get_num_threads())
    rows = getattr(datamodule_of(learner.trainer), "batch_size", 256) * learner.seeds
    products, precision, how = choose_products(
        rows // learner.trainer.world_size,
        widest(learner),
        1 if shared else threads,
        precision,
        on_cpu=not elsewhere,
    )
    return Plan(chosen, threads or products, precision, why, how, shared)


def widest(learner: nn.Module) -> int:
    """Return the units of the widest layer; rows of a table are looked up, and no product."""
    tables = {part.weight for part in learner.modules() if isinstance(part, nn.Embedding)}
    shapes = (p.shape[1:] if p in tables else p.shape for p in learner.parameters())
    return max(max(shape, default=1) for shape in shapes)


def _obstacle(learner: "LearnerModule", optimizer: torch.optim.Optimizer) -> str:
    """Return why updates of this run cannot be one function, "" if they can."""
    if learner.trainer.world_size > 1:
        return "there are several processes"
    if learner.trainer.precision == "16-mixed":
        return "precision 16-mixed scales its gradients step by step"
    if learner.has_own_update:
        return own_update(type(learner))
    return adam_obstacle(optimizer)


def own_update(kind: type) -> str:
    """Return why updates that are a learner's own cannot be one function."""
    return f"{kind.__name__} has an update of its own"


def no_compiler() -> str:
    """Return why nothing can be compiled for the CPU here, "" if it can."""
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    if any(name and shutil.which(name) for name in names):
        return ""
    return "no C++ compiler was found (g++, or name one in CXX)"


def no_bfloat16(compiled: str, precision: str) -> str:
    """Return why compiled updates cannot compute products in bfloat16, "" if they can.

    Args:
        compiled: What is compiled.
        precision: The trainer's.

    Returns:
        One reason.
    """
    if compiled not in ("auto", "update"):
        return f"it is a matter of compiled updates, and compile is '{compiled}'"
    if precision != "32-true":
        return f"the trainer's precision is {precision}, not 32-true"
    if not getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        return "this processor has no AVX512-BF16"
    return ""


def no_scan() -> str:
    """Return why a chunk of updates cannot be one graph with this release, "" if it can."""
    if scan is None:
        return f"PyTorch {torch.__version__} has no torch._higher_order_ops.scan"
    return ""


def choose_compile(
    wanted: Compile, updates: int | None, obstacle: str, missing: str, elsewhere: str
) -> tuple[Literal["off", "losses", "update"], str]:
    """Return what to compile, and why.

    Args:
        wanted: What the user asked for.
        updates: Updates of the run, ``None`` where only its time is limited.
        obstacle: Why the whole update cannot be compiled in this run, "" if it can.
        missing: What is missing here to compile at all, "" if nothing.
        elsewhere: Why nothing is chosen unasked on this device, "" if it is.

    Returns:
        The choice and its reason.

    Raises:
        ValueError: What is asked for cannot be compiled.
    """
    if wanted == "auto":
        if not (obstacle or missing or elsewhere) and updates is not None:
            worth = f"compiling costs what about {BREAK_EVEN:,} updates save, this run has"
            chosen: Any = "update" if updates >= 2 * BREAK_EVEN else "off"
            return chosen, f"{worth} {updates:,}"
        return "off", obstacle or missing or elsewhere or "the number of updates is not known"
    if wanted != "off" and missing:
        raise ValueError(f"compile '{wanted}' cannot be used here: {missing}. Use 'off'")
    if wanted == "update" and obstacle:
        raise ValueError(f"compile 'update' cannot be used here: {obstacle}. Use 'losses' or 'off'")
    return wanted, "as asked"


def choose_products(
    rows: int, width: int, threads: int | None, precision: Precision, *, on_cpu: bool = True
) -> tuple[int, Chosen, str]:
    """Return threads and precision for products of the size of a run, by trying them.

    Args:
        rows: Rows of a batch on this device.
        width: Units of the widest layer.
        threads: Threads asked for, ``None`` to choose.
        precision: Precision asked for, ``"auto"`` to choose; ``"bfloat16"`` is not tried.
        on_cpu: Whether products are computed there; elsewhere nothing is tried.

    Returns:
        The choice and its reason.
    """
    most = torch.get_num_threads()
    kept: Any = "highest" if precision == "auto" else precision
    if not on_cpu:
        return threads or most, kept, "not on the CPU"
    if threads is not None and precision != "auto":
        return threads, kept, "as asked"
    if 2 * rows * width * width < SMALL_PRODUCT:
        return threads or 1, kept, "small layers"
    precisions = ("highest", "medium") if precision == "auto" else (precision,)
    counts = sorted({1, most}) if threads is None else [threads]
    tried = _measure(rows, width, [(count, name) for count in counts for name in precisions])
    best = next(iter(tried))
    exact = tried[best].error
    for candidate, seen in tried.items():
        faster = tried[best].seconds > MARGIN * seen.seconds
        if faster and (precision != "auto" or seen.error <= LARGEST_ERROR * exact):
            best = candidate
    seen, first = tried[best], next(iter(tried.values()))
    why = (
        f"a product of {rows} x {width} x {width} took {1e6 * seen.seconds:.0f} us, "
        f"{1e6 * first.seconds:.0f} with {counts[0]} thread and {precisions[0]}; "
        f"error {seen.error:.0e}, {exact:.0e}"
    )
    chosen: Any = best[1]
    return best[0], chosen, why


@dataclass(frozen=True)
class _Seen:
    seconds: float
    error: float


def _measure(rows: int, width: int, options: list[tuple[int, str]]) -> dict[Any, _Seen]:
    """Return time and largest relative error of one product with each option, in turns."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, width, generator=generator)
    right = torch.randn(width, width, generator=generator)
    true = left.double() @ right.double()
    times: dict[Any, list[float]] = {option: [] for option in options}
    errors: dict[Any, float] = {}
    for _ in range(7):
        for count, name in options:
            plan = Plan("off", count, name)  # type: ignore[arg-type]
            with plan.applied():
                found = left @ right  # the first of each is a warm-up too
                start = time.perf_counter()
                for _ in range(8):
                    found = left @ right
                times[count, name].append((time.perf_counter() - start) / 8)
            errors[count, name] = float((found - true).abs().max() / true.abs().max())
    return {option: _Seen(statistics.median(times[option]), errors[option]) for option in options}
