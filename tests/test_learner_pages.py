"""Learners' pages: what is generated follows docstrings, signatures and configurations."""

import importlib
import inspect
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from hindsight_rl.training.limits import Limits

ROOT = Path(__file__).resolve().parents[1]

MODULE = """Above average (AA): imitate what beat the average.

    L = -E[ 1(A > 0) log pi(a | s) ]                                           (eq. 3)

A is the ``advantage`` of :class:`hindsight_rl.nets.critics.Critic`.

Reference: Somebody 2020,
"A title".

Deviations:
- One step, with :func:`bootstrap`.

Update order: value, then policy.
"""


@dataclass(frozen=True)
class Episodes:
    """What is played.

    Args:
        count: How many.
        options: Of the environment.
    """

    count: int = 10
    options: dict[str, int] = field(default_factory=dict)


class AboveAverage:
    """Clone what beat the average.

    Args:
        spec: What the data look like.
        width: Of each layer |x|, see
            :class:`Inputs`; at least 1.
        limit: In (0, infinity]; ``None`` for none.
        cap: Above 0.
        fast: Whether ``a | b`` is compiled.
        episodes: What is played.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: No argument: never shown.
    """

    def __init__(
        self,
        spec: dict[str, Any] | None = None,
        *,
        width: tuple[int, ...] = (256, 256),
        limit: float | None = None,
        cap: float = math.inf,
        fast: bool = True,
        episodes: Episodes = Episodes(count=3),  # noqa: B008
        **learner: Any,
    ) -> None: ...


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module, which lies among the tools and is no package."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("learner_pages")


def test_source_is_the_module_docstring(pages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "__doc__", MODULE)
    module = f"agents/{__name__.rpartition('.')[2]}.py"
    assert pages.source(AboveAverage, "Above average") == inspect.cleandoc(
        f"""Above average. Source: [{module}](../../{module}).

        ## Objective

            L = -E[ 1(A > 0) log pi(a | s) ]                                           (eq. 3)

        A is the `advantage` of `Critic`.

        ## Reference

        Somebody 2020,
        "A title".

        ## Deviations

        - One step, with `bootstrap`.

        ## Update order

        Value, then policy."""
    )


def test_arguments_are_the_signature_and_its_docstring(pages: ModuleType) -> None:
    assert pages.table(AboveAverage).splitlines() == [
        "| argument | default | what |",
        "|---|---|---|",
        r"| `width` | `[256, 256]` | Of each layer \|x\|, see `Inputs`; at least 1. |",
        "| `limit` | `null` | In (0, infinity]; `None` for none. |",
        "| `cap` | `.inf` | Above 0. |",
        r"| `fast` | `true` | Whether `a \| b` is compiled. |",
        "| `episodes.count` | `3` | How many. |",
        "| `episodes.options` | `{}` | Of the environment. |",
    ]


def test_argument_without_a_docstring_is_an_error(pages: ModuleType) -> None:
    class Silent:
        """Say nothing."""

        def __init__(self, width: int) -> None: ...

    with pytest.raises(KeyError, match="width"):
        pages.table(Silent)


def test_every_page_shows_its_learner(pages: ModuleType) -> None:
    """A default and a range that IQL's page must have, and the configuration it ships."""
    page = (ROOT / "docs" / "learners" / "iql.md").read_text(encoding="utf-8")
    assert "| `expectile` | `0.7` | In (0, 1); larger leans to the best logged actions. |" in page
    assert (ROOT / "configs" / "iql.yaml").read_text(encoding="utf-8").strip() in page
    assert "[iql_online](../../configs/iql_online.yaml)" in page


def test_what_a_learner_cannot_do_is_on_its_page(pages: ModuleType) -> None:
    """Said by its class, or of the optimiser or the update that it has."""
    from hindsight_rl.agents.bc import BC
    from hindsight_rl.agents.q_learning import QLearning

    class Paired(BC):
        limits: ClassVar[Limits] = {"ranks": "its loss looks at pairs of rows"}

    class Ordered(BC):
        def update(self, batch: Any) -> Any:
            return super().update(batch)

    must, own = "the optimiser must be Adam or AdamW, not SGD", "Ordered has an update of its own"
    assert pages.limits(BC) == {} and pages.unable(BC) == ""
    assert pages.limits(QLearning) == {"update": must, "seeds": must}
    assert pages.limits(Ordered) == {"update": own, "seeds": own}
    assert pages.unable(Paired) == (
        "## What it cannot do as it is\n\n- two processes: its loss looks at pairs of rows."
    )


def test_new_learner_gets_a_page(pages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """All places of generated parts are there, those that ``make results`` fills too."""
    documents = importlib.import_module("documents")
    page = pages.blank(AboveAverage)
    for name in ("source", "settings", "numbers"):
        page = documents.placed(page, name, f"text of {name}")
        assert f"text of {name}" in page
    with pytest.raises(ValueError, match="no place <!-- absent --> ... <!-- end of absent -->"):
        documents.placed(page, "absent", "")
