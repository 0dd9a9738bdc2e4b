"""How commands end: a file that cannot be used is one line, as every error of a user is."""

from pathlib import Path

import pytest

from vmae.cli import exit_with_message


@pytest.mark.parametrize("name", ["", "file/below", "absent"])
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, capsys, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        exit_with_message(lambda: Path(tmp_path / name).read_text())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / name}: ")
    assert said.count("\n") == 1


def test_an_error_of_ours_keeps_its_traceback():
    with pytest.raises(OSError, match="no file of the user's"):
        exit_with_message(lambda: (_ for _ in ()).throw(OSError("no file of the user's")).__next__())
