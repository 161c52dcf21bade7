"""The site of the documentation: links, references, navigation. ``make site`` builds it whole."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_SPEC = importlib.util.spec_from_file_location("build_site", ROOT / "tools" / "build_site.py")
assert _SPEC is not None and _SPEC.loader is not None
site = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(site)

PLACES = {
    "README.md": "first-steps.md",
    "docs/a.md": "a.md",
    "docs/learners/bc.md": "learners/bc.md",
    "docs/flow.svg": "flow.svg",
    "relabel/goals.py": "names/relabel.md",
}


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("README.md", "[a](docs/a.md#part)", "[a](a.md#part)"),
        ("README.md", "![flow](docs/flow.svg)", "![flow](flow.svg)"),
        ("README.md", "[`BC`](docs/learners/bc.md)", "[`BC`](learners/bc.md)"),
        ("docs/learners/bc.md", "[first](../../README.md)", "[first](../first-steps.md)"),
        ("docs/learners/bc.md", "[goals](../../relabel/goals.py)", "[goals](../names/relabel.md)"),
        ("docs/a.md", "[settings](../configs/bc.yaml) of it", "settings of it"),
        ("docs/a.md", "[here](#part), [there](https://b.c/d.md)", None),
        ("docs/a.md", "`a[0](b)`, ```\n[x](docs/no.md)\n```", None),
    ],
)
def test_links_lead_to_pages_of_the_site(source: str, text: str, expected: str | None) -> None:
    found = site.moved_links(text, source, PLACES[source], PLACES)
    assert found == (text if expected is None else expected)


def test_numbers_stay_beside_their_intervals() -> None:
    gap = "\N{NO-BREAK SPACE}"
    text = "Of 3 [2, 4].\n| BC [95 %] | 491.6 [477.4, 498.0] | -1.5 [-2, 0.1] wins |\n"
    assert site.unbroken(text) == (
        f"Of 3 [2, 4].\n| BC [95{gap}%] | 491.6{gap}[477.4,{gap}498.0] | "
        f"-1.5{gap}[-2,{gap}0.1] wins |\n"
    )


def test_references_to_public_names_are_links() -> None:
    text = ":class:`~hindsight_rl.agents.iql.IQL` after :func:`_own`"
    found = site.linked_roles(text, {"IQL": "agents.iql"})
    assert found == "[`IQL`][hindsight_rl.agents.iql.IQL] after `_own`"


def test_a_rooms_page_has_its_public_names() -> None:
    page = site.reference("agents", {"IQL": "agents.iql", "Log": "logs.log", "BC": "agents.bc"})
    assert page.splitlines()[4:] == [
        "::: hindsight_rl.agents.bc.BC",
        "",
        "::: hindsight_rl.agents.iql.IQL",
    ]


def test_every_page_is_found_in_the_navigation(tmp_path: Path) -> None:
    """And every public name on a page."""
    from hindsight_rl import _HOME

    site.assemble(tmp_path)
    written = {
        path.relative_to(tmp_path / "pages").as_posix()
        for path in (tmp_path / "pages").rglob("*.md")
    }
    listed = [page for _, found in site.navigation(site.pages()) for page in found]
    assert sorted(listed) == sorted(written)
    names = "".join(path.read_text() for path in (tmp_path / "pages" / "names").glob("*.md"))
    assert not [name for name, home in _HOME.items() if f"{home}.{name}\n" not in names]


def test_the_demo_is_part_of_a_site_that_was_made_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = "[the page](demo/index.html)"
    monkeypatch.setattr(site, "DEMO", tmp_path / "demo")
    site.assemble(tmp_path / "without")
    text = (tmp_path / "without" / "pages" / "gallery.md").read_text()
    assert "the page\nruns the exported file" in text and link not in text
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "index.html").write_text("<p>four rooms</p>")
    site.assemble(tmp_path / "with")
    assert link in (tmp_path / "with" / "pages" / "gallery.md").read_text()
    assert (tmp_path / "with" / "pages" / "demo" / "index.html").exists()
    assert (tmp_path / "with" / "pages" / "demo" / "rooms.webp").exists()
