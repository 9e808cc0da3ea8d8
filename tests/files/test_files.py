"""Files and folders are written whole or not at all, only where they may be, and one process at a time has a name."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from jaxprune import files
from jaxprune.files import disk
from tests.files import failpoints


def leftovers(folder):
    return sorted(name for name in os.listdir(folder) if name.endswith(".tmp"))


def write_file(folder, content):
    files.write(folder / "file", content)


def write_folder(folder, content):
    with files.writing_folder(folder / "file", replace=True) as new:
        (new / "inner").mkdir()
        files.write(new / "inner" / "content", content)


def read_file(folder):
    return (folder / "file").read_text() if (folder / "file").exists() else None


def read_folder(folder):
    path = folder / "file" / "inner" / "content"
    return path.read_text() if (folder / "file").exists() else None


KINDS = {"file": (write_file, read_file), "folder": (write_folder, read_folder)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [None, "old"])
def test_a_stop_at_any_moment_leaves_the_old_content_or_the_new(tmp_path, kind, before):
    write, read = KINDS[kind]
    moments = failpoints.moments_of(lambda: write(tmp_path, "first"))
    assert {name for name, _ in moments} >= {"before write", "before fsync", "before rename", "after rename"}
    # Replacing one takes at most one more rename.
    for number in range(1, len(moments) + 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        if before:
            write(folder, before)
        try:
            with failpoints.stop_at(number) as seen:
                write(folder, "new")
        except failpoints.Stopped:
            renamed = any(name == "after rename" and path == str(folder / "file") for name, path in seen)
            assert read(folder) == ("new" if renamed else before)
        else:
            assert read(folder) == "new"
        assert not leftovers(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_moment_leaves_the_old_content_or_the_new_and_the_next_writer_tidies(tmp_path, kind):
    write, read = KINDS[kind]
    code = f"""
import pathlib
from tests.files import test_files
write, _ = test_files.KINDS[{kind!r}]
write(pathlib.Path.cwd(), "new")
"""
    count = len(failpoints.moments_of(lambda: write(tmp_path, "first")))
    ends = []
    for number, folder, exit_code in failpoints.killed_at_every_moment(tmp_path / "all", code, count):
        assert read(folder) in (None, "new")
        assert exit_code == (77 if number else 0)
        assert (read(folder) == "new") or number
        ends.append(read(folder))
        write(folder, "next")
        assert read(folder) == "next"
        assert not leftovers(folder)
    assert set(ends) == {None, "new"}


def test_the_content_is_on_the_disk_before_it_has_its_name_and_the_name_before_the_call_returns(tmp_path):
    names = [name for name, _ in failpoints.moments_of(lambda: files.write(tmp_path / "file", b"content"))]
    assert names == [
        *("before write", "after write", "before fsync", "after fsync"),
        *("before rename", "after rename", "before fsync", "after fsync"),
    ]


def test_processes_that_write_one_path_never_mix_their_content(tmp_path):
    code = f"""
for _ in range(40):
    files.write({str(tmp_path / "file")!r}, "abc"[number] * 100_000)
"""
    writers = failpoints.start_processes(code, 3)
    while writers.poll() is None:
        if (tmp_path / "file").exists():
            content = (tmp_path / "file").read_text()
            assert content in {letter * 100_000 for letter in "abc"}
    failpoints.printed_by(writers)
    assert os.listdir(tmp_path) == ["file"]


CREATE = {
    "file": "files.write(path, str(number), exclusive=True)",
    "folder": "with files.writing_folder(path) as new: files.write(new / 'content', str(number))",
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_several_processes_creates_a_path_and_the_others_are_told(tmp_path, kind):
    code = f"""
for attempt in range(5):
    path = {str(tmp_path)!r} + f"/{{attempt}}"
    try:
        {CREATE[kind]}
        print(attempt, number)
    except FileExistsError:
        pass
"""
    winners = sorted(failpoints.printed_by(failpoints.start_processes(code, 4)))
    assert [line.split()[0] for line in winners] == ["0", "1", "2", "3", "4"]
    for line in winners:
        attempt, winner = line.split()
        path = tmp_path / attempt
        assert (path if kind == "file" else path / "content").read_text() == winner


@pytest.mark.parametrize("path", ["", " ", "\0", "a\0b"])
def test_an_empty_path_is_refused(path):
    with pytest.raises(ValueError, match=r"the path of the checkpoint folder is .*; give a name \(is a shell variable"):
        files.check_output(path, what="checkpoint folder", is_ours=lambda path: True)


@pytest.mark.parametrize("path", ["~", "~/net"])
def test_a_home_folder_that_no_shell_has_replaced_is_refused(path):
    with pytest.raises(ValueError, match=r"the path of the report is '~.*write the home folder out"):
        files.check_output(path, what="report")


@pytest.mark.parametrize("path", [".", ".."])
def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch, path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FileExistsError, match="exists already"), files.writing_folder(path, replace=True):
        pass
    assert os.listdir(tmp_path) == ["here"]


def no_space(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_full_disk_names_the_file_and_leaves_what_was_there(tmp_path, kind, call, monkeypatch):
    write, read = KINDS[kind]
    write(tmp_path, "old")
    with monkeypatch.context() as patch, failpoints.small_files(100 if call == "write" else None):
        if call != "write":
            patch.setattr(os, call, no_space)
        with pytest.raises(OSError, match=r"file.* could not be written \((No space left on device|File too large)\)"):
            write(tmp_path, "new" * 100)
    assert read(tmp_path) == "old"
    assert not leftovers(tmp_path)


def test_what_is_there_is_replaced_only_if_recognised(tmp_path):
    (tmp_path / "theirs").write_text("mine, says the user")
    with pytest.raises(FileExistsError, match="exists already and is no report that jaxprune wrote; give another path"):
        files.check_output(tmp_path / "theirs", what="report", is_ours=lambda path: False)
    with pytest.raises(FileExistsError, match="exists already; give another path"):
        files.check_output(tmp_path / "theirs", what="report")
    assert files.check_output(tmp_path / "theirs", what="report", is_ours=lambda path: True).exists()
    assert not files.check_output(tmp_path / "new" / "deep", what="report").exists()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="exists already"):
        files.check_output(tmp_path / "dangling", what="report")


def test_a_path_through_a_file_and_a_path_of_no_kind_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="the report cannot be written to .*file is a file; give another path"):
        files.check_output(tmp_path / "file" / "deep" / "er", what="report")
    with pytest.raises(TypeError, match="the path of the report is a int; give a string or a path"):
        files.check_output(3, what="report")


def test_a_folder_to_write_into_may_be_there(tmp_path):
    (tmp_path / "theirs").write_text("")
    assert files.check_folder(tmp_path, what="run folder") == tmp_path
    assert not files.check_folder(tmp_path / "new" / "deep", what="run folder").exists()
    with pytest.raises(NotADirectoryError, match="the run folder cannot be written to .*: .*theirs is a file; give"):
        files.check_folder(tmp_path / "theirs", what="run folder")
    with pytest.raises(ValueError, match="the path of the run folder is ''; give a name"):
        files.check_folder("", what="run folder")


def test_the_folders_that_a_file_needs_are_on_the_disk_with_it(tmp_path):
    moments = failpoints.moments_of(lambda: files.write(tmp_path / "a" / "b" / "file", "content"))
    synced = [path for name, path in moments if name == "after fsync"]
    assert synced[:2] == [str(tmp_path), str(tmp_path / "a")]


def test_a_symbolic_link_is_followed_and_stays(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write(tmp_path / "link", "content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "content"


def test_files_have_the_permissions_of_other_new_files(tmp_path):
    (tmp_path / "plain").write_text("")
    files.write(tmp_path / "ours", "")
    assert stat.S_IMODE(os.stat(tmp_path / "ours").st_mode) == stat.S_IMODE(os.stat(tmp_path / "plain").st_mode)


def test_only_leftovers_of_dead_processes_are_deleted(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = disk.temporary_name(tmp_path / "file").name.removeprefix(".file.").rpartition("-")[0].rpartition("-")[0]
    kept = [f".file.{host}-{os.getpid()}-00000000.tmp", f".file.elsewhere-{dead.pid}-00000000.tmp", ".file.notes.tmp"]
    for name in [*kept, f".file.{host}-{dead.pid}-00000000.tmp"]:
        (tmp_path / name).write_text("")
    (tmp_path / f".other.{host}-{dead.pid}-00000000.tmp").mkdir()
    files.write(tmp_path / "file", "")
    assert leftovers(tmp_path) == sorted([*kept, f".other.{host}-{dead.pid}-00000000.tmp"])
    files.tidy(tmp_path)
    assert leftovers(tmp_path) == sorted(kept)


def test_a_lock_is_held_by_one_process_and_freed_when_it_dies(tmp_path):
    with files.lock(tmp_path, "part", wait=False) as mine:
        assert mine
        with files.lock(tmp_path, "part", wait=False) as again:
            assert not again
        with files.lock(tmp_path, "other", wait=False) as other:
            assert other
    for number, _, exit_code in failpoints.killed_at_every_moment(
        tmp_path / "held",
        f"""
from jaxprune import files
from jaxprune.files import disk
lock = files.lock({str(tmp_path)!r}, "part", wait=False)
assert lock.__enter__()
disk.moment("before write", None)
""",
        1,
    ):
        assert exit_code == (77 if number else 0)
    with files.lock(tmp_path, "part", wait=False) as mine:
        assert mine


def test_what_others_are_at_comes_last_and_is_left_alone_once_done(tmp_path):
    done, waited = [], []

    def is_done(part):
        return part in done or part == "finished"

    def on_wait(name):
        # The process that was at it lets go: of one part done, of the other not.
        waited.append(name)
        busy[name].__exit__(None, None, None)
        if name == "by another":
            done.append(name)

    busy = {name: files.lock(tmp_path, name, wait=True) for name in ("by another", "abandoned")}
    for lock in busy.values():
        lock.__enter__()
    parts = ["by another", "finished", "abandoned", "free"]
    did = []

    def do(part):
        did.append(part)
        done.append(part)

    files.do_each(tmp_path, parts, name=str, is_done=is_done, do=do, on_wait=on_wait)
    assert did == ["free", "abandoned"]
    assert waited == ["by another", "abandoned"]


def test_check_sums_of_files_and_folders(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert files.checksum("abc") == files.checksum(b"abc") == files.checksum_of(tmp_path / "folder" / "a") == known
    before = files.checksum_of(tmp_path / "folder")
    (tmp_path / "folder" / "a").rename(tmp_path / "folder" / "b")
    assert files.checksum_of(tmp_path / "folder") != before
