"""Files are written whole or not at all, and read plain or gzipped."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from stages.shared.files import GzipError, Record, RecordError, from_json, inflated, replacing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_appears_once_it_is_whole(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "new" / "file"
    if before:
        path.parent.mkdir()
        path.write_text(before)
    with replacing(path) as part:
        part.write_text("whole")
        assert part.parent == path.parent  # the move is within one disk
        assert (path.read_text() if path.exists() else None) == before
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("before", [False, True])
def test_a_folder_appears_once_it_is_whole(tmp_path: Path, before: bool) -> None:
    path = tmp_path / "folder"
    if before:
        path.mkdir()
        (path / "old").touch()
    with replacing(path) as part:
        part.mkdir()
        (part / "new").touch()
        assert not before or names(path) == ["old"]
    assert names(path) == ["new"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("fault", [OSError("no space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("folder", [False, True])
def test_what_fails_half_way_leaves_what_was_there(
    tmp_path: Path, fault: BaseException, folder: bool
) -> None:
    path = tmp_path / "kept"
    path.write_text("old")

    def fail_half_way() -> None:
        with replacing(path) as part:
            if folder:
                part.mkdir()
            (part / "half" if folder else part).write_text("half")
            raise fault

    with pytest.raises(type(fault)):
        fail_half_way()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["kept"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_a_killed_process_left_is_not_taken_up(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "file"
    with replacing(path) as part:
        left = part  # where a process that is killed here leaves its half
        part.touch()
    if folder:
        left.mkdir()
    (left / "half" if folder else left).write_text("half")
    with replacing(path) as part:
        assert not part.exists()
        part.write_text("whole")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("content", [b"", b"\x1f", b"plain"])
def test_what_does_not_begin_as_gzip_is_plain(content: bytes) -> None:
    with inflated(io.BytesIO(content)) as plain:
        assert plain.read() == content


def test_gzip_is_inflated_whatever_the_number_of_its_members() -> None:
    for members in ([b"plain"], [b"pl", b"ain"]):
        with inflated(io.BytesIO(b"".join(map(gzip.compress, members)))) as plain:
            assert plain.read() == b"plain"


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-3],
        lambda whole: whole[:20] + bytes(20) + whole[40:],
        lambda whole: whole + b"more",
    ],
)
def test_damaged_gzip_is_told(damage: object) -> None:
    whole = gzip.compress(bytes(range(256)) * 8)
    with pytest.raises(GzipError, match="broken gzip data: "):  # noqa: SIM117
        with inflated(io.BytesIO(damage(whole))) as plain:  # type: ignore[operator]
            plain.read()


class Point(Record):
    name: str
    size: tuple[int, int]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "a"}', "size is missing"),
        ('{"name": 1, "size": [1, 2]}', "name is 1, expected a valid string"),
        ('{"name": "a", "size": [1, "x"]}', "size.1 is 'x', expected a valid integer"),
        ('{"name": "a", "size": [1, 2], "more": 0}', "more is not a known key"),
        ("{", "Invalid JSON"),
        ("[]", "expected "),
    ],
)
def test_what_is_wrong_with_a_record_is_told_in_a_line(text: str, said: str) -> None:
    with pytest.raises(RecordError) as raised:
        from_json(Point, text)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_record_comes_back_as_it_was() -> None:
    point = Point(name="a", size=(1, 2))
    assert from_json(Point, point.model_dump_json()) == point
