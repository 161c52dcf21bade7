"""Files and folders that are whole or absent, and what killed processes leave."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from drafts import left_draft

from hindsight_rl.files import (
    WriteError,
    remove_drafts,
    whole_folder,
    write_text,
    write_whole,
)

_HOLD = """
import sys, time
from pathlib import Path
from hindsight_rl.files import whole_folder
with whole_folder(Path(sys.argv[1])) as draft:
    (draft / "half").touch()
    print("writing", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_written_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "Grüße")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "Grüße".encode()
    assert names(tmp_path / "new") == {"a.txt"}


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "before")

    def write(file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        WriteError, match=r"a\.txt cannot be written: No space left.*Make room"
    ) as told:
        write_whole(tmp_path / "a.txt", write)
    assert told.value.full
    assert (tmp_path / "a.txt").read_text() == "before" and names(tmp_path) == {"a.txt"}


def test_an_error_about_another_file_is_not_told_as_one_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "log"):
        (tmp_path / "elsewhere" / "source.csv").read_text()
    assert names(tmp_path) == set()


def test_a_file_is_not_written_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(WriteError, match="a folder has this name"):
        write_text(tmp_path / "a", "text")
    assert names(tmp_path) == {"a"}


def test_a_folder_is_there_when_its_block_has_ended_well(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "log") as draft:
        (draft / "header").write_text("{}")
        assert not (tmp_path / "log").exists()
    assert names(tmp_path) == {"log"} and names(tmp_path / "log") == {"header"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_folder_whose_block_fails_is_absent(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), whole_folder(tmp_path / "log") as draft:
        (draft / "header").touch()
        raise error
    assert names(tmp_path) == set()


def test_a_folder_that_is_there_is_kept_or_replaced(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "log") as draft:
        (draft / "first").touch()
    with pytest.raises(WriteError, match="choose another name"), whole_folder(tmp_path / "log"):
        pass
    assert names(tmp_path / "log") == {"first"}
    with whole_folder(tmp_path / "log", overwrite=True) as draft:
        (draft / "second").touch()
    assert names(tmp_path / "log") == {"second"} and names(tmp_path) == {"log"}


def test_a_folder_has_the_rights_that_others_have(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with whole_folder(tmp_path / "log"):
        pass
    assert (tmp_path / "log").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_only_drafts_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    left_draft(tmp_path / "a.ckpt")
    left_draft(tmp_path / "b.ckpt", process=os.getpid())  # of a process that had our number
    kept = [
        left_draft(tmp_path / "c.ckpt", process=os.getppid()),
        left_draft(tmp_path / "d.ckpt", host="another"),
        tmp_path / ".letter.4711.draft",
        tmp_path / ".hidden",
    ]
    for path in kept[2:]:
        path.touch()
    remove_drafts(tmp_path)
    assert names(tmp_path) == {path.name for path in kept}


def test_a_draft_of_another_machine_goes_when_nobody_has_written_to_it_for_a_day(
    tmp_path: Path,
) -> None:
    old = left_draft(tmp_path / "a.ckpt", host="another")
    long_ago = time.time() - 25 * 3600
    os.utime(old, (long_ago, long_ago))
    remove_drafts(tmp_path)
    assert names(tmp_path) == set()


def test_what_this_process_writes_is_not_removed_meanwhile(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "log") as draft:
        remove_drafts(tmp_path)
        write_text(tmp_path / "beside.txt", "text")
        (draft / "header").touch()
    assert names(tmp_path) == {"log", "beside.txt"}


def test_a_folder_set_aside_is_put_back_where_nothing_took_its_place(tmp_path: Path) -> None:
    left_draft(tmp_path / "lost", kind="replaced")
    left_draft(tmp_path / "renewed", kind="replaced")
    (tmp_path / "renewed").write_text("new")
    remove_drafts(tmp_path)
    assert names(tmp_path) == {"lost", "renewed"}
    assert (tmp_path / "lost").read_text() == "half"
    assert (tmp_path / "renewed").read_text() == "new"


def test_what_a_killed_process_leaves_is_removed_by_the_next_that_writes(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _HOLD, str(tmp_path / "log")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        write_text(tmp_path / "a.txt", "text")
        assert len(names(tmp_path)) == 2, "the draft of a living process stays"
        process.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 2
    write_text(tmp_path / "b.txt", "text")
    assert names(tmp_path) == {"a.txt", "b.txt"}


@pytest.mark.skipif(shutil.which("chattr") is None, reason="no chattr here")
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    place = tmp_path / "closed"
    place.mkdir()
    if subprocess.run(["chattr", "+i", str(place)], capture_output=True).returncode:
        pytest.skip("no folder can be closed to root here")
    try:
        with pytest.raises(WriteError, match="is its folder writable"):
            write_text(place / "a.txt", "text")
        with pytest.raises(WriteError, match="is its folder writable"), whole_folder(place / "log"):
            pass
    finally:
        subprocess.run(["chattr", "-i", str(place)], check=True)
