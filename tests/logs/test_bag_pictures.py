"""Pictures in bags, as rosbags' own writer writes them: equal pixels, causal rows, named damage."""

import io
from pathlib import Path
from typing import Any

import bag_files as bags
import numpy as np
import pytest
from bag_files import COMMAND, JOINTS, MS, START, Put, command, joints

from hindsight_rl.keys import OBSERVATION
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, survey

for _library in ("rosbags", "mcap", "zstandard", "lz4"):
    pytest.importorskip(_library, reason="needs the extra 'ros'")

CAMERA = "/camera/image_raw"
MAP = {
    "observation": {"eye": CAMERA, "arm": f"{JOINTS}.position"},
    "action": f"{COMMAND}.data",
    "row_at": JOINTS,
}
CHANNELS = {"mono8": 1, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}
COUNT = 6


def pixels(number: int, channels: int = 3, height: int = 9, width: int = 7) -> Any:
    """Return the picture of a number; no two are alike."""
    flat = np.arange(height * width * channels) * 31 + 101 * number
    return (flat % 253).astype(np.uint8).reshape(height, width, channels)


def in_order(shown: Any, encoding: str) -> Any:
    """Return pixels in the order of an encoding."""
    places = [2, 1, 0, *range(3, shown.shape[-1])] if encoding.startswith("bgr") else slice(None)
    return shown[..., places]


def write(put: Put, camera: Any, late: int = 4) -> None:
    """Joints and commands at 100 Hz, a picture at every second one, received some ms later."""
    for k in range(2 * COUNT):
        at = START + 10 * k * MS
        if k % 2 == 0:
            put(CAMERA, at + late * MS, camera(at, k // 2))
        put(JOINTS, at + 5 * MS, joints(at, ["a"], [k]))
        put(COMMAND, at + 6 * MS, command([k]))


def eye(log: Log) -> Any:
    return log.column((OBSERVATION, "eye")).numpy()


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("encoding", CHANNELS)
def test_raw_pictures_read_back_equal(encoding: str, storage: str, tmp_path: Path) -> None:
    """Padded lines; rows from the second one on, since a command is known 6 ms after its stamp."""

    def camera(at: int, number: int) -> Any:
        shown = in_order(pixels(number, CHANNELS[encoding]), encoding)
        return bags.image(at, shown, encoding, padding=5)

    path = bags.rosbag(tmp_path / "bag", lambda put: write(put, camera), storage)
    log = read_log(path, MAP | {"extra": f"{CAMERA}@age"})
    rows = np.arange(1, 2 * COUNT)
    assert log.column((OBSERVATION, "arm"))[:, 0].tolist() == rows.tolist()
    expected = np.stack([pixels(k // 2, CHANNELS[encoding]) for k in rows])
    np.testing.assert_array_equal(eye(log), expected)
    after = log.column(("next", OBSERVATION, "eye")).numpy()
    np.testing.assert_array_equal(after[:-1], expected[1:])
    ages = log.column("image_raw@age").numpy()
    np.testing.assert_allclose(ages, np.where(rows % 2, 0.01, 0.0), atol=1e-9)


def packed(shown: Any, kind: str) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    flat = shown[..., 0] if shown.shape[-1] == 1 else shown
    Image.fromarray(flat).save(out, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return out.getvalue()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_reads_back_equal(channels: int, tmp_path: Path) -> None:
    def camera(at: int, number: int) -> Any:
        data = packed(pixels(number, channels), "PNG")
        return bags.packed(at, data, "rgb8; png compressed bgr8")

    path = bags.mcap(tmp_path / "a.mcap", lambda put: write(put, camera))
    expected = np.stack([pixels(k // 2, channels) for k in range(1, 2 * COUNT)])
    np.testing.assert_array_equal(eye(read_log(path, MAP)), expected)


def test_jpeg_is_read_as_its_library_decodes_it(tmp_path: Path) -> None:
    """Smooth colours, red over blue: a swap of the channels would be seen."""
    from PIL import Image

    shown = np.zeros((16, 16, 3), np.uint8)
    shown[..., 0], shown[..., 2] = 220, np.arange(16)[:, None] * 4
    data = packed(shown, "JPEG")

    def camera(at: int, number: int) -> Any:
        return bags.packed(at, data, "jpeg")

    log = read_log(bags.mcap(tmp_path / "a.mcap", lambda put: write(put, camera)), MAP)
    np.testing.assert_array_equal(eye(log)[0], np.array(Image.open(io.BytesIO(data))))
    assert np.abs(eye(log)[0].astype(int) - shown).max() < 12


def test_pictures_are_causal_and_smaller_where_the_map_says_so(tmp_path: Path) -> None:
    """At receive times a picture comes 4 ms after its stamp, joints 1 ms before it at first.

    Joints of row k are received at 10 k + 5 ms, pictures at 20 m + 12 ms: row k shows the picture
    m = floor((10 k - 7) / 20).
    """

    def camera(at: int, number: int) -> Any:
        return bags.image(at, pixels(number, height=8, width=6), "rgb8")

    path = bags.mcap(tmp_path / "a.mcap", lambda put: write(put, camera, late=12))
    log = read_log(path, MAP | {"stamps": "receive", "resize": [4, 3]})
    rows = log.column((OBSERVATION, "arm"))[:, 0].numpy().astype(int)
    assert rows.tolist() == list(range(1, 2 * COUNT))
    for k, found in zip(rows, eye(log), strict=True):
        whole = pixels((10 * k - 7) // 20, height=8, width=6).astype(float)
        mean = whole.reshape(4, 2, 3, 2, 3).mean((1, 3))
        np.testing.assert_allclose(found, mean, atol=1.0)  # rounded along either side
    with pytest.raises(LogError, match=r"resize is \[10, 6\], larger than the \[8, 6\]"):
        read_log(path, MAP | {"resize": [10, 6]})


def test_only_stamps_of_pictures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of pictures are never held together, and frames lie in a mapped file."""
    from hindsight_rl.logs.reading.formats import rosbag

    def camera(at: int, number: int) -> Any:
        return bags.image(at, pixels(number), "rgb8")

    bag = bags.rosbag(tmp_path / "bags" / "one", lambda put: write(put, camera))
    bags.rosbag(tmp_path / "bags" / "two", lambda put: write(put, camera))
    held: list[int] = []
    scanned = rosbag.scan

    def scan(*given: Any) -> Any:
        found = scanned(*given)
        held.append(max(map(len, found.kept[CAMERA])))
        return found

    monkeypatch.setattr(rosbag, "scan", scan)
    content, problems = survey(bag.parent, MAP)
    assert held == [12, 12] and not problems
    assert isinstance(content.columns[(OBSERVATION, "eye")], np.memmap)
    log = read_log(bag.parent, MAP)
    assert log.episodes == 2
    np.testing.assert_array_equal(eye(log)[: len(log) // 2], eye(log)[len(log) // 2 :])


def test_actions_of_the_next_row_give_the_last_picture_too(tmp_path: Path) -> None:
    def camera(at: int, number: int) -> Any:
        return bags.image(at, pixels(number), "rgb8")

    path = bags.mcap(tmp_path / "a.mcap", lambda put: write(put, camera))
    image = {"observation": f"{JOINTS}.position", "image": CAMERA, "action_at": "next"}
    log = read_log(path, MAP | image)
    after = log.column(("next", "image_raw")).numpy()
    expected = np.stack([pixels(k // 2) for k in range(2, 2 * COUNT)])
    np.testing.assert_array_equal(after, expected)


def test_fields_of_a_picture_are_numbers_as_before(tmp_path: Path) -> None:
    def camera(at: int, number: int) -> Any:
        return bags.image(at, pixels(number), "rgb8")

    path = bags.mcap(tmp_path / "a.mcap", lambda put: write(put, camera))
    log = read_log(path, MAP | {"observation": [f"{CAMERA}.width", f"{CAMERA}.data[0]"]})
    assert log.column(OBSERVATION)[0].tolist() == [7.0, 0.0]


def damaged(kind: str) -> Any:
    """Return a camera whose fourth picture is wrong."""

    def camera(at: int, number: int) -> Any:
        good = bags.image(at, pixels(number), "rgb8")
        if number != 3:
            return good if kind != "png" else bags.packed(at, packed(pixels(0), "PNG"), "png")
        if kind == "png":
            return bags.packed(at, packed(pixels(0), "PNG")[:-30], "png")
        if kind == "size":
            return bags.image(at, pixels(3, width=8), "rgb8")
        if kind == "channels":
            return bags.image(at, pixels(3, 1), "mono8")
        changed = {"data": good.data[:-1]} if kind == "cut" else {}
        changed |= {"step": 20} if kind == "step" else {}
        changed |= {"encoding": "16UC1"} if kind == "encoding" else {}
        fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
        fields.pop("__msgtype__", None)
        return bags.made("sensor_msgs/msg/Image", **(fields | changed))

    return camera


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", "picture 3 is damaged: 9 lines of 21 bytes for 7 pixels, and 188 bytes"),
        ("step", "picture 3 is damaged: 9 lines of 20 bytes for 7 pixels"),
        ("encoding", "picture 3 is encoded as '16UC1', and mono8, rgb8, bgr8, rgba8, bgra8 are"),
        ("size", "picture 3 is of 9 x 8 pixels of 3 channels where the first is of 9 x 7 pixels"),
        ("channels", "picture 3 is of 9 x 7 pixels of 1 channels where the first"),
        ("png", "picture 3 it is no PNG or JPEG that can be read"),
    ],
)
def test_damage_is_named(kind: str, message: str, tmp_path: Path) -> None:
    path = bags.mcap(tmp_path / "a.mcap", lambda put: write(put, damaged(kind)))
    with pytest.raises(LogError, match=f"column '{CAMERA}': {message}"):
        read_log(path, MAP)


def test_depth_and_pictures_among_numbers_are_errors(tmp_path: Path) -> None:
    def depth(at: int, number: int) -> Any:
        return bags.packed(at, b"", "16UC1; compressedDepth png")

    path = bags.mcap(tmp_path / "a.mcap", lambda put: write(put, depth))
    with pytest.raises(LogError, match="picture 0 is encoded as '16UC1; compressedDepth png'"):
        read_log(path, MAP)
    for wrong in (
        {"observation": [CAMERA, f"{JOINTS}.position"]},
        {"observation": f"{JOINTS}.position", "task": CAMERA},
    ):
        with pytest.raises(LogError, match=r"a camera among the columns of .*`image: /camera"):
            read_log(path, MAP | wrong)


def test_inspect_lists_pictures_as_columns(tmp_path: Path) -> None:
    path = bags.mcap(
        tmp_path / "a.mcap",
        lambda put: write(put, lambda at, n: bags.image(at, pixels(n), "rgb8")),
    )
    with pytest.raises(LogError, match=r"It holds: .*/camera/image_raw,.*/camera/image_raw@age"):
        read_log(path, MAP | {"observation": {"eye": "/camera/image"}})
