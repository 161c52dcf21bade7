"""Run folders: which is new, which is newest, and how an interrupted run goes on."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_fits import checkpoints, fit, fit_words, hindsight, kill_once, refused, start
from drafts import left_draft

from hindsight_rl.cli.runs import (
    chosen_checkpoint,
    new_run,
    newest_checkpoint,
    newest_run,
)
from hindsight_rl.files import write_text
from hindsight_rl.training.checkpoints.file import HASH

EVALUATED = ("--env", "CartPole-v1", "--model.init_args.evaluation.every", 60)


def differences(one: Any, two: Any, where: str = "") -> list[str]:
    """Return where two nested structures differ, tensors by their bits."""
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if torch.equal(one, two) else [where]
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [d for key in one for d in differences(one[key], two[key], f"{where}.{key}")]
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return [d for n in range(len(one)) for d in differences(one[n], two[n], f"{where}[{n}]")]
    return [] if one == two else [where]


def assert_same(one: Path, two: Path, name: str = "last.ckpt") -> None:
    """Weights, optimiser, sweeps and counters of two runs' checkpoints agree to the bit."""
    ends = [torch.load(run / "checkpoints" / name, weights_only=True) for run in (one, two)]
    for key in ("state_dict", "optimizer_states", "hindsight", "global_step"):
        assert differences(ends[0][key], ends[1][key], key) == []
    assert ends[0]["optimizer_states"][0]["state"]


def save(path: Path, updates: int) -> Path:
    """Write what counts as a checkpoint here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"global_step": updates}, path)
    return path


# ------------------------------------------------------------------ finding things


def test_new_run_takes_the_next_number(tmp_path: Path) -> None:
    assert new_run("iql", tmp_path / "none") == tmp_path / "none" / "iql-001"
    for name in ("iql-002", "iql-010", "iql-last", "awr-020"):
        (tmp_path / name).mkdir()
    assert new_run("iql", tmp_path) == tmp_path / "iql-011"


def test_newest_run_is_the_one_written_to_last(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b", "c")):
        write_text(tmp_path / name / "config.yaml", "")
        for path in (tmp_path / name, tmp_path / name / "config.yaml"):
            os.utime(path, (number, number))
    (tmp_path / "no run").mkdir()
    assert newest_run(tmp_path) == tmp_path / "c"
    os.utime(save(tmp_path / "a" / "checkpoints" / "last.ckpt", 1), (9, 9))
    assert newest_run(tmp_path) == tmp_path / "a"


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run in .* to resume: give --run FOLDER"):
        newest_run(tmp_path)


def test_newest_checkpoint_counts_updates_and_passes_over_what_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    save(folder / "step=9.ckpt", 9)
    newest = save(folder / "step=10.ckpt", 10)
    save(folder / "best.ckpt", 8)
    (folder / "empty.ckpt").touch()
    torch.save({"other": 1}, folder / "foreign.ckpt")
    torch.save({"global_step": 99, "code": Path}, folder / "pickled.ckpt")
    torch.save({"global_step": 98, HASH: "sha256:0"}, folder / "damaged.ckpt")
    assert newest_checkpoint(tmp_path) == newest
    told = capsys.readouterr().err.splitlines()
    whys = {
        "empty": "not a readable Hindsight checkpoint: cut, or a file of another kind",
        "foreign": "holds something else than a checkpoint",
        "pickled": "not a readable Hindsight checkpoint: cut, or a file of another kind",
        "damaged": "damaged: its content does not agree with its hash",
    }
    assert told == [
        f"{folder / name}.ckpt: {why}; {newest} is taken instead" for name, why in whys.items()
    ]


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no readable checkpoint; give a folder that 'fit' wrote"):
        newest_checkpoint(tmp_path)


def test_chosen_checkpoint_is_the_best_then_the_last_then_the_newest(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for name, updates in (("step=5.ckpt", 5), ("last.ckpt", 7), ("best.ckpt", 3)):
        path = save(folder / name, updates)
        assert chosen_checkpoint(tmp_path) == path


def test_last_is_chosen_where_the_best_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    last = save(folder / "last.ckpt", 7)
    save(folder / "step=7.ckpt", 7)
    (folder / "best.ckpt").touch()
    assert chosen_checkpoint(tmp_path) == last
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith(f"{folder / 'best.ckpt'}: not a readable")
    assert told[0].endswith(f"; {last} is taken instead")


def test_write_text_leaves_one_whole_file(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write_text(tmp_path / "deep" / "file", text)
        assert (tmp_path / "deep" / "file").read_text() == text
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


# ------------------------------------------------------------------ keeping and going on


@pytest.mark.parametrize(
    ("keep", "kept"), [(2, [60, 80]), (1, [80]), (-1, [20, 40, 60, 80]), (0, [])]
)
def test_newest_checkpoints_are_kept(keep: int, kept: list[int], place: Path) -> None:
    done = fit("--run", "a", "--checkpoint_every", 20, "--keep", keep, updates=90)
    assert done.code == 0, done.err
    assert checkpoints(place / "a") == {f"step={n}.ckpt": n for n in kept} | {"last.ckpt": 90}


def test_a_run_is_never_written_over(place: Path) -> None:
    assert fit("--run", "a", updates=10).code == 0
    before = {path: path.stat().st_mtime_ns for path in (place / "a").rglob("*")}
    again = fit("--run", "a", updates=10)
    assert again.code == 2
    assert again.err == (
        "error: a already holds a run: add --resume to go on, or choose another --run\n"
    )
    assert {path: path.stat().st_mtime_ns for path in (place / "a").rglob("*")} == before


@pytest.mark.parametrize("named", [True, False], ids=["--run", "newest run"])
def test_resume_goes_on_to_a_higher_number(named: bool, place: Path) -> None:
    """100 updates in one go, or 60 and then up to 100, are the same."""
    assert fit("--run", "runs/straight", updates=100).code == 0
    assert fit("--run", "runs/parts", updates=60).code == 0
    words = ["--run", "runs/parts"] if named else []
    done = hindsight("fit", "--resume", *words, "--trainer.max_steps", 100)
    assert done.code == 0, done.err
    assert done.err.startswith("resuming runs/parts/checkpoints/last.ckpt\n")
    assert_same(place / "runs" / "straight", place / "runs" / "parts")
    assert checkpoints(place / "runs" / "parts") == {
        **{"last.ckpt": 100, "step=75.ckpt": 75, "step=100.ckpt": 100}
    }


def test_a_finished_run_resumes_to_itself(place: Path) -> None:
    assert fit("--run", "a").code == 0
    before = (place / "a" / "checkpoints" / "step=50.ckpt").read_bytes()
    done = hindsight("fit", "--resume", "--run", "a")
    assert done.code == 0 and "updates: 60\n" in done.out
    assert checkpoints(place / "a") == {"last.ckpt": 60, "step=25.ckpt": 25, "step=50.ckpt": 50}
    assert (place / "a" / "checkpoints" / "step=50.ckpt").read_bytes() == before


def test_a_run_killed_after_its_last_update_ends_as_one_left_alone(place: Path) -> None:
    """All that was missing is ``last.ckpt``, and the removal of a checkpoint before the newest."""
    assert fit("--run", "straight", updates=75).code == 0
    shutil.copytree("straight", "killed")
    folder = place / "killed" / "checkpoints"
    (folder / "last.ckpt").unlink()
    shutil.copy(folder / "step=50.ckpt", folder / "step=25.ckpt")
    assert hindsight("fit", "--resume", "--run", "killed").code == 0
    assert checkpoints(place / "killed") == {
        "last.ckpt": 75,
        "step=50.ckpt": 50,
        "step=75.ckpt": 75,
    }
    assert_same(place / "straight", place / "killed")


def test_resume_passes_over_a_cut_checkpoint(place: Path) -> None:
    assert fit("--run", "straight").code == 0
    assert fit("--run", "cut").code == 0
    for name in ("last.ckpt", "step=50.ckpt"):
        path = place / "cut" / "checkpoints" / name
        path.write_bytes(path.read_bytes()[:-1000])
    done = hindsight("fit", "--resume", "--run", "cut")
    assert done.code == 0, done.err
    lines = done.err.splitlines()
    for line, name in zip(lines, ("last.ckpt", "step=50.ckpt"), strict=False):
        assert line.startswith(
            f"cut/checkpoints/{name}: not a readable Hindsight checkpoint: cut, "
        )
        assert line.endswith("another kind; cut/checkpoints/step=25.ckpt is taken instead")
    assert lines[2] == "resuming cut/checkpoints/step=25.ckpt"
    assert checkpoints(place / "cut") == checkpoints(place / "straight")
    assert_same(place / "straight", place / "cut")


def damage(path: Path) -> None:
    """Change one number of a checkpoint and leave its hash as it is."""
    held = torch.load(path, weights_only=True)
    next(iter(held["state_dict"].values())).view(-1)[0] += 1
    torch.save(held, path)


def test_resume_passes_over_a_damaged_checkpoint(place: Path) -> None:
    assert fit("--run", "straight").code == 0
    shutil.copytree("straight", "damaged")
    damage(place / "damaged" / "checkpoints" / "last.ckpt")
    left_draft(place / "damaged" / "config.yaml")
    done = hindsight("fit", "--resume", "--run", "damaged")
    assert done.code == 0, done.err
    assert done.err.splitlines()[:2] == [
        "damaged/checkpoints/last.ckpt: damaged: its content does not agree with its hash; "
        "damaged/checkpoints/step=50.ckpt is taken instead",
        "resuming damaged/checkpoints/step=50.ckpt",
    ]
    assert_same(place / "straight", place / "damaged")
    assert not list((place / "damaged").rglob("*.draft"))


def test_a_damaged_checkpoint_that_was_named_is_refused(place: Path) -> None:
    """Nothing else is taken for it, but told of."""
    assert fit("--run", "a").code == 0
    last = Path("a/checkpoints/last.ckpt")
    damage(last)
    export = ("export", "--ckpt_path", last, "--output", "no.onnx")
    resume = ("--run", "a", "--ckpt_path", last, "--trainer.max_steps", 80)
    for ended in (fit(*resume), hindsight(*export), hindsight("test", "--ckpt_path", last)):
        told = refused(ended)
        assert told.startswith(f"error: {last}: damaged: its content does not agree with its hash")
        assert told.endswith("The newest good one beside it: a/checkpoints/step=50.ckpt\n")
    assert checkpoints(place / "a") == {"last.ckpt": 60, "step=25.ckpt": 25, "step=50.ckpt": 50}


def test_what_only_reads_a_run_takes_the_last_where_the_best_is_damaged(place: Path) -> None:
    words = (*EVALUATED, "--data.validation", 0.3)
    assert fit("--run", "a", *words).code == 0
    damage(place / "a" / "checkpoints" / "best.ckpt")
    for command in ("test", "validate", "predict"):
        done = hindsight(command, "--run", "a")
        assert done.code == 0, done.err
        assert done.err.splitlines()[0] == (
            "a/checkpoints/best.ckpt: damaged: its content does not agree with its hash; "
            "a/checkpoints/last.ckpt is taken instead"
        )


@pytest.mark.slow
@pytest.mark.parametrize("config", ["iql", "awr"])
def test_a_killed_run_resumed_ends_as_one_left_alone(config: str, place: Path) -> None:
    """Kill -9 after a checkpoint at 150 updates, with evaluations at 60 and 120 before it."""
    words = (*EVALUATED, "--checkpoint_every", 50)
    options: dict[str, Any] = {"config": config, "updates": 600}
    process = start(*fit_words("--run", "killed", *words, **options), folder=place)
    kill_once(process, place / "killed" / "checkpoints" / "step=150.ckpt")
    left = {path.name for path in (place / "killed" / "checkpoints").glob("*.ckpt")}
    assert "best.ckpt" in left and "last.ckpt" not in left and "step=550.ckpt" not in left
    assert hindsight("fit", "--resume", "--run", "killed").code == 0
    assert fit("--run", "straight", *words, **options).code == 0
    assert checkpoints(place / "straight") == checkpoints(place / "killed")
    for name in ("last.ckpt", "best.ckpt"):
        assert_same(place / "straight", place / "killed", name)


@pytest.mark.slow
def test_two_processes_make_one_run(place: Path) -> None:
    words = fit_words("--trainer.devices", 2, "--trainer.strategy", "ddp", "--json")
    process = start(*words, folder=place)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert [path.name for path in (place / "runs").iterdir()] == ["iql-001"]
    assert out.count('"updates": 60') == 1
    two = checkpoints(place / "runs" / "iql-001")
    assert two == {"last.ckpt": 60, "step=25.ckpt": 25, "step=50.ckpt": 50}
    assert err.count("update 60 of 60") == 1
    again = start(*words, "--resume", "--trainer.max_steps", 80, folder=place)
    out, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    assert [path.name for path in (place / "runs").iterdir()] == ["iql-001"]
    assert checkpoints(place / "runs" / "iql-001")["last.ckpt"] == 80
