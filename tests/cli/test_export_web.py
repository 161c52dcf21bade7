"""``hindsight export --target web``: a folder with a policy file and the page that runs it."""

import json
import shutil
from pathlib import Path

import pytest
from javascript import READER, ort_web
from lightning import Trainer
from policy_files import contract, leaky_sum, node, write
from stand_ins import spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.cli.export import main
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.web.ort import TRIED
from hindsight_rl.nets.network import Network

FILES = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"]
PAGE = ["answer.mjs", "index.html", "inputs.mjs", "page.css", "page.mjs", "runtime.mjs"]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A policy file."""
    return leaky_sum(tmp_path / "arm.onnx")


def ort_of(folder: Path, version: str = "1.31.0", name: str = "onnxruntime-web") -> Path:
    """Write what stands for the package, in a release that nobody knows the hashes of."""
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": name, "version": version}))
    for file in FILES:
        (folder / "dist" / file).write_text(file)
    return folder / "dist"


def words(policy: Path, page: Path, *more: object) -> list[str]:
    given = (policy, "--target", "web", "--output", page, *more)
    return [str(word) for word in given]


def failed(given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error of a command that ends with 2."""
    assert main(given) == 2
    return capsys.readouterr().err


def test_a_file_becomes_a_page(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "my page"
    assert main(words(policy, page, "--ort", ort_of(tmp_path / "ort"))) == 0
    held = sorted(each.relative_to(page).as_posix() for each in page.rglob("*") if each.is_file())
    reader = [f"reader/{each.name}" for each in READER.iterdir()]
    wanted = [*PAGE, "tables.mjs", "policy.onnx", *reader, *(f"ort/{name}" for name in FILES)]
    assert held == sorted(wanted)
    assert (page / "policy.onnx").read_bytes() == policy.read_bytes()
    assert (page / "ort" / FILES[1]).read_text() == FILES[1]
    lines = capsys.readouterr().out.splitlines()
    size = sum(each.stat().st_size for each in page.rglob("*") if each.is_file())
    assert lines[0] == f"wrote       {page} (ByHand, {size:,} bytes in {len(held)} files)"
    assert lines[2].startswith("parity      actions differ by 0.0e+00 of their range at most")
    assert lines[-2] == f"runtime     onnxruntime-web 1.31.0, and tests ran {TRIED}"
    assert lines[-1].endswith(f"--directory '{page}'")


def test_a_checkpoint_becomes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(BC(spec_of(task=True), network=Network(hidden=(16,))))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    given = ["--ckpt_path", str(tmp_path / "last.ckpt"), "--target", "web", "--opset", "17"]
    given += ["--output", str(tmp_path / "page"), "--json", "--rate_limit", "2.0"]
    assert main(given) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["learner"] == "BC" and report["opset"] == 17 and report["ort"] is None
    policy = OnnxPolicy(tmp_path / "page" / "policy.onnx")
    assert policy.contract["action"]["rate_limit"] == [2.0, 2.0, 2.0]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["last.ckpt", "page"]


def test_without_the_runtime_it_says_how_to_get_it(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(policy, tmp_path / "page")) == 0
    said = capsys.readouterr().out
    assert f"runtime     missing: 'npm install onnxruntime-web@{TRIED}'" in said
    assert not (tmp_path / "page" / "ort").exists()


def test_the_release_that_was_tried_is_known_by_its_hash(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(policy, tmp_path / "page", "--ort", ort_web())) == 0
    assert capsys.readouterr().out.splitlines()[-2] == f"runtime     onnxruntime-web {TRIED}"
    copy = tmp_path / "copy" / "dist"
    copy.mkdir(parents=True)
    shutil.copyfile(ort_web().parent / "package.json", copy.parent / "package.json")
    for name in FILES:
        shutil.copyfile(ort_web() / name, copy / name)
    with (copy / FILES[0]).open("a") as file:
        file.write(" ")
    told = failed(words(policy, tmp_path / "other", "--ort", copy), capsys)
    assert f"{copy / FILES[0]}: not as onnxruntime-web {TRIED} was published" in told
    assert not (tmp_path / "other").exists()


def test_other_folders_are_no_runtime(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    old, short = ort_of(tmp_path / "old", "1.19.2"), ort_of(tmp_path / "short")
    (short / FILES[1]).unlink()
    torn = ort_of(tmp_path / "torn")
    (torn.parent / "package.json").write_text('{"name": "onnxruntime-w')
    other, odd = ort_of(tmp_path / "other", name="react"), ort_of(tmp_path / "odd", "newest")
    for folder, why in (
        (empty, "not the folder 'dist' of npm's package onnxruntime-web"),
        (tmp_path / "nowhere", "not the folder 'dist' of npm's package onnxruntime-web"),
        (other, "not the folder 'dist' of npm's package onnxruntime-web"),
        (odd, "not the folder 'dist' of npm's package onnxruntime-web"),
        (old, "onnxruntime-web 1.19.2 is older than 1.20"),
        (short, f"{FILES[1]} of onnxruntime-web 1.31.0 is missing"),
        (torn, "not readable as JSON"),
    ):
        told = failed(words(policy, tmp_path / "page", "--ort", folder), capsys)
        assert why in told and "npm install onnxruntime-web" in told
        assert not (tmp_path / "page").exists()


def test_only_pages_are_replaced(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, mine = tmp_path / "page", tmp_path / "mine"
    assert main(words(policy, page)) == 0
    (page / "policy.onnx").write_bytes(b"old")
    assert "is there already: choose another folder, or pass --overwrite" in failed(
        words(policy, page), capsys
    )
    assert (page / "policy.onnx").read_bytes() == b"old"
    assert main(words(policy, page, "--overwrite")) == 0
    assert (page / "policy.onnx").read_bytes() == policy.read_bytes()
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    assert "is no page of a policy" in failed(words(policy, mine, "--overwrite"), capsys)
    assert (mine / "thesis.txt").read_text() == "years"
    (tmp_path / "file").write_text("text")
    assert "is no page of a policy" in failed(
        words(policy, tmp_path / "file", "--overwrite"), capsys
    )


def test_what_answers_differently_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [[0.0, 1.0], [2.0, 3.0]]
    stated = contract(probe={"observation": rows, "action": [[0.0, 1.0], [2.0, 3.5]]})
    path = write(tmp_path / "p.onnx", stated, [node("Identity", "observation", "action")])
    assert "onnxruntime and the learner differ by" in failed(words(path, tmp_path / "page"), capsys)
    path.write_text("no model")
    assert "error: " in failed(words(path, tmp_path / "page"), capsys)
    assert [each.name for each in tmp_path.iterdir()] == ["p.onnx"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["POLICY", "--target", "web"], "--output is missing: name the folder to write, such as"),
        (["POLICY", "--target", "web", "--output", "x", "--opset", "17"], "leave out --opset"),
        (["POLICY", "--target", "c", "--output", "x.c", "--ort", "y"], "leave out --ort"),
        (["--verify", "POLICY", "--overwrite"], "--verify only reads: leave out --overwrite"),
    ],
)
def test_options_that_do_not_go_together(
    given: list[str], told: str, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(policy) if word == "POLICY" else word for word in given])
    assert left.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
