"""Documents are written into the project, and never over what a person wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrion.core.errors import InvalidInput
from orchestrion.ops.documents import is_ours, write_all

FOLDER = ".orchestrion/docs"


def write(root: Path, text: str, name: str = "STATUS.md", *, dry_run: bool = False) -> str:
    """What became of the document."""
    outcome = write_all(root, FOLDER, {name: text}, dry_run=dry_run)
    [became] = [what for what, paths in outcome.items() if paths]
    assert outcome[became] == [f"{FOLDER}/{name}"]
    return became


def test_a_document_is_created_then_updated_and_not_touched_if_nothing_changed(tmp_path: Path) -> None:
    assert write(tmp_path, "one") == "created"
    file = tmp_path / FOLDER / "STATUS.md"
    assert file.read_text().startswith("one\n")
    assert is_ours(file.read_text())
    before = file.stat()
    assert write(tmp_path, "one") == "unchanged"
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert write(tmp_path, "two") == "updated"
    assert file.read_text().startswith("two\n")
    assert [path.name for path in file.parent.iterdir()] == ["STATUS.md"]


def test_what_a_person_changed_is_theirs(tmp_path: Path) -> None:
    write(tmp_path, "one")
    file = tmp_path / FOLDER / "STATUS.md"
    for mine in (file.read_text().replace("one", "mine"), file.read_text() + "more\n", "all mine\n", ""):
        file.write_text(mine)
        assert write(tmp_path, "two") == "kept"
        assert file.read_text() == mine


def test_what_was_never_ours_stays(tmp_path: Path) -> None:
    place = tmp_path / FOLDER
    place.mkdir(parents=True)
    (place / "binary.md").write_bytes(b"\xff\xfe")
    (place / "folder.md").mkdir()
    (tmp_path / "elsewhere").write_text("theirs")
    (place / "link.md").symlink_to(tmp_path / "elsewhere")
    (place / "broken.md").symlink_to(tmp_path / "nowhere")
    for name in ("binary.md", "folder.md", "link.md", "broken.md"):
        assert write(tmp_path, "ours", name) == "kept"
    assert (tmp_path / "elsewhere").read_text() == "theirs"
    assert not (tmp_path / "nowhere").exists()


def test_a_dry_run_says_what_would_be_and_writes_nothing(tmp_path: Path) -> None:
    assert write(tmp_path, "one", dry_run=True) == "created"
    assert not (tmp_path / ".orchestrion").exists()
    write(tmp_path, "one")
    assert write(tmp_path, "two", dry_run=True) == "updated"
    assert (tmp_path / FOLDER / "STATUS.md").read_text().startswith("one")


@pytest.mark.parametrize("folder", ["/tmp", "..", "a/../..", ".", ".git/docs", "away", "away/below"])
def test_a_folder_that_is_not_one_of_the_projects_is_refused(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (root / "away").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidInput, match=r"maintenance\.docs"):
        write_all(root, folder, {"STATUS.md": "x"}, dry_run=False)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_below_the_folder_leads_nowhere_either(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / FOLDER).mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (root / FOLDER / "decisions").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidInput):
        write_all(root, FOLDER, {"decisions/0001-x.md": "x"}, dry_run=False)
    assert list((tmp_path / "outside").iterdir()) == []


def test_words_that_are_no_text_are_written_out(tmp_path: Path) -> None:
    assert write(tmp_path, "broken \ud800") == "created"
    assert "\\ud800" in (tmp_path / FOLDER / "STATUS.md").read_text()
    assert write(tmp_path, "broken \ud800") == "unchanged"
