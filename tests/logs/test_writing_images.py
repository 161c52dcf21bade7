"""Logs with images in the formats of other tools: equal to the bit, a few frames at a time."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from small_logs import everything, five, pictures, same

from hindsight_rl.cli.convert import main
from hindsight_rl.keys import NEXT_OBSERVATION, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log
from hindsight_rl.logs.writing import TARGETS, frames, write_log

FACTS = {"names": {"action": ["force"]}, "control_rate_hz": 30.0}
CAMERA = ("observation", "camera")


def seen(channels: int = 3, more: int = 2) -> torch.Tensor:
    """Return frames ``[5 or 5 + E, 4, 6, C]``; no two are alike."""
    count = (5 + more) * 4 * 6 * channels
    return (torch.arange(count) * 37 % 251).to(torch.uint8).view(5 + more, 4, 6, channels)


def entries(camera: torch.Tensor, **more: Any) -> Log:
    """Return five rows of two episodes with an arm and a camera, chained as Minari has them."""
    columns: dict[Any, Any] = five(**more)
    if "next" in columns:
        columns[("next", *CAMERA)] = columns.pop("next")
    flat = columns.pop("observation")
    columns.pop(NEXT_OBSERVATION)
    columns |= {
        ("observation", "arm"): flat,
        ("next", "observation", "arm"): flat + torch.tensor([1.0, 10.0]),
        CAMERA: camera,
    }
    return Log.from_columns(columns, FACTS)


def beside() -> Log:
    """Return a log whose images lie beside its observation."""
    columns = five(wrist=seen(), top=seen(1))
    columns[NEXT_OBSERVATION] = columns["observation"] + torch.tensor([1.0, 10.0])
    return Log.from_columns(columns, FACTS)


LOGS: dict[str, Any] = {
    "entry": lambda: entries(seen()),
    "grey": lambda: entries(seen(1)),
    "opacity": lambda: entries(seen(4)),
    "beside": beside,
    "both": lambda: entries(seen(), wrist=seen(1)),
}


def written(log: Log, folder: Path, target: str) -> Path:
    path = folder / ("out.parquet" if target == "parquet" else "out")
    write_log(log, path, target)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LOGS)
def test_images_read_back_equal_to_the_bit(name: str, target: str, tmp_path: Path) -> None:
    """What the last step of each episode led to is kept too."""
    log = LOGS[name]()
    back = read_log(written(log, tmp_path, target))
    assert set(map(key_name, back.keys())) == set(map(key_name, log.keys()))
    assert same(everything(back), everything(log))
    assert back.info.get("entries") == log.info.get("entries")


@pytest.mark.parametrize("target", ["parquet", "lerobot"])
def test_what_follows_may_be_a_column_of_its_own(target: str, tmp_path: Path) -> None:
    log = entries(seen(more=0), **{"next": 255 - seen(more=0)})
    assert same(everything(read_log(written(log, tmp_path, target))), everything(log))
    with pytest.raises(LogError, match="next.observation.camera is not the observation.camera"):
        written(log, tmp_path / "folder", "minari")


@pytest.mark.parametrize("target", TARGETS)
def test_few_frames_are_held_at_a_time(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "_TOGETHER", 150)  # two frames
    asked: list[int] = []
    column = Log.column

    def counted(self: Log, key: Any, rows: slice = slice(None)) -> torch.Tensor:
        found = column(self, key, rows)
        if key in (CAMERA, ("next", *CAMERA)):
            asked.append(len(found))
        return found

    monkeypatch.setattr(Log, "column", counted)
    log = entries(seen())
    path = written(log, tmp_path, target)
    assert max(asked) <= 3  # an episode of Minari has three
    monkeypatch.undo()
    assert same(everything(read_log(path)), everything(log))


def test_lerobot_has_pictures_as_its_format_says(tmp_path: Path) -> None:
    from PIL import Image

    path = written(entries(seen()), tmp_path, "lerobot")
    info = json.loads((path / "meta" / "info.json").read_text())
    name = "observation.images.camera"
    sides = ["height", "width", "channels"]
    assert info["features"][name] == {"dtype": "image", "shape": [4, 6, 3], "names": sides}
    table = pyarrow.parquet.read_table(path / "data" / "chunk-000" / "file-000.parquet")
    cell = table[name][3].as_py()
    assert set(cell) == {"bytes", "path"} and cell["path"] is None
    picture = np.array(Image.open(io.BytesIO(cell["bytes"]), formats=["PNG"]))
    np.testing.assert_array_equal(picture, entries(seen()).column(CAMERA)[3])
    stats = json.loads((path / "meta" / "stats.json").read_text())[name]
    shown = entries(seen()).column(CAMERA).numpy() / 255
    for fact in ("min", "max", "mean", "std"):
        expected = getattr(shown, fact)(axis=(0, 1, 2)).reshape(3, 1, 1)
        np.testing.assert_allclose(stats[fact], expected, atol=1e-12)


def test_frames_of_others_are_read_and_made_smaller(tmp_path: Path) -> None:
    """A dataset as LeRobot writes it, without our map and our file of last frames."""
    path = written(entries(seen()), tmp_path, "lerobot")
    (path / "meta" / "hindsight.json").unlink()
    (path / "meta" / "hindsight_frames.parquet").unlink()
    columns = {
        "observation": {"arm": "observation.arm", "camera": "observation.images.camera"},
        "resize": [2, 3],
    }
    log = read_log(path, columns)
    whole = entries(seen()).column(CAMERA).numpy().astype(float)
    mean = whole.reshape(5, 2, 2, 3, 2, 3).mean((2, 4))
    np.testing.assert_allclose(log.column(CAMERA), mean, atol=1.0)
    repeated = log.column(("next", *CAMERA))[log.episode_ends()]
    assert torch.equal(repeated, log.column(CAMERA)[log.episode_ends()])


def test_pictures_in_parquet_of_others(tmp_path: Path) -> None:
    """Bytes without a struct; damage, other sizes and empty cells are named."""
    import pyarrow as pa

    from hindsight_rl.logs.pictures import png_of

    cells = [png_of(frame.numpy()) for frame in seen(more=0)]
    plain = {"obs": [[float(k)] for k in range(5)], "action": [[0.5]] * 5, "reward": [0.0] * 5}
    plain |= {"episode": [0, 0, 0, 1, 1]}

    def read(pixels: list[Any], **more: Any) -> Log:
        table = pa.table(plain | {"eye": pa.array(pixels, pa.binary())})
        pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
        return read_log(tmp_path / "log.parquet", {"image": "eye"} | more)

    assert torch.equal(read(cells).column("eye"), seen(more=0))
    for pixels, message in (
        ([*cells[:3], cells[3][:60], cells[4]], "row 3: it is no PNG or JPEG that can be read"),
        ([*cells[:4], png_of(seen(1)[0].numpy())], "row 4: a picture of .4, 6, 1. where the first"),
        ([*cells[:4], None], "row 4: an empty cell"),
        ([None] * 5, "it holds no picture"),
    ):
        with pytest.raises(LogError, match=f"column 'eye'.*{message}"):
            read(pixels)
    with pytest.raises(LogError, match="column 'eye': values of type binary"):
        read(cells, image=None, observation=["obs", "eye"])


def test_videos_are_close_where_they_are_asked_for(tmp_path: Path) -> None:
    """Eight bars show the number of a frame; rows, times and places are those of the pictures."""
    pytest.importorskip("av", reason="needs the extra 'video'")
    import video_files

    shown = np.stack([video_files.numbered(number) for number in range(7)])
    columns = five(eye=torch.from_numpy(shown))
    columns[NEXT_OBSERVATION] = columns["observation"] + torch.tensor([1.0, 10.0])
    log = Log.from_columns(columns, FACTS | {"control_rate_hz": 29.97})
    write_log(log, tmp_path / "robot", "lerobot", video=True)
    back = read_log(tmp_path / "robot")
    assert video_files.numbers(back.column("eye").numpy()) == [0, 1, 2, 4, 5]
    assert np.abs(back.column("eye").numpy().astype(int) - log.column("eye").numpy()).mean() < 8
    for key in ("observation", "action", ("next", "reward")):
        assert torch.equal(back.column(key), log.column(key))
    info = json.loads((tmp_path / "robot" / "meta" / "info.json").read_text())
    assert info["features"]["observation.images.eye"]["info"]["video.codec"] == "h264"
    for wrong, target, message in (
        (log, "minari", "videos are asked for, and minari has none"),
        (entries(seen(1)), "lerobot", r"its frames are \[4, 6, 1\], and videos are of three"),
    ):
        with pytest.raises(LogError, match=message):
            write_log(wrong, tmp_path / "x", target, video=True)  # type: ignore[arg-type]
        assert not (tmp_path / "x").exists()


def test_what_is_no_picture_is_an_error(tmp_path: Path) -> None:
    log = entries(seen()[..., :2].contiguous())
    for target in ("parquet", "lerobot"):
        with pytest.raises(LogError, match=r"column 'observation.camera': its images are of shape"):
            written(log, tmp_path, target)
    assert same(everything(read_log(written(log, tmp_path, "minari"))), everything(log))


def test_the_command_converts_images(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "log.npz",
        obs=np.arange(10.0).reshape(5, 2),
        action=np.zeros((5, 1)),
        reward=np.zeros(5),
        episode=np.array([0, 0, 0, 1, 1]),
        eye=pictures().numpy(),
    )
    words = [tmp_path / "log.npz", "--columns", "{observation: {q: obs, eye: eye}}", "--rate", 10]
    words += ["--to", "lerobot", "--output", tmp_path / "robot"]
    assert main([str(word) for word in words]) == 0
    back = read_log(tmp_path / "robot")
    assert torch.equal(back.column(("observation", "eye")), pictures())
