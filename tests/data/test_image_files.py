"""Image files: which formats are opened, what is no image of a class, and what is too much for the memory."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from jaxprune import cli, corruptions, data

EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%Pages: 1\n%%EndComments\n"
    b"newpath 0 0 moveto 8 8 lineto stroke\nshowpage\n%%EOF\n"
)


def pixels(seed=0, shape=(8, 8, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def encoded(form, image=None, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels() if image is None else image).save(buffer, form, **options)
    return buffer.getvalue()


def classes(root, **files):
    """Writes the same files into the two class folders of a data set."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            path = root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return root


def of_size(width, height):
    """A PNG whose header claims a size that its few bytes do not hold."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


# Every place at which a user's image file is opened.
def from_folder(path):
    root = path.parent / "set"
    classes(root, **{"x.png": path.read_bytes()})
    return lambda: data.load_image_folder(root, image_size=4)


def from_stream(path):
    root = path.parent / "set"
    classes(root, **{"x.png": path.read_bytes()})
    return lambda: data.stream_image_folder(root, image_size=4).read(0)


def from_textures(path):
    return lambda: corruptions.FrostTextures.from_directory(path.parent)


PLACES = {"folder": from_folder, "stream": from_stream, "frost textures": from_textures}


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """A program of Ghostscript's name that leaves a file where it was started."""
    folder, started = tmp_path / "bin", tmp_path / "started"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\n[ \"$1\" = --version ] || touch '{started}'\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return started


@pytest.mark.parametrize("place", PLACES)
def test_no_other_program_is_started_for_an_image(tmp_path, ghostscript, place):
    (tmp_path / "files").mkdir()
    path = tmp_path / "files" / "x.png"
    path.write_bytes(EPS)
    message = ""
    try:
        PLACES[place](path)()
    except Exception as error:
        message = str(error)
    assert not ghostscript.exists(), "Ghostscript was started"
    assert "x.png cannot be read as an image (its content is none of" in message
    assert "\n" not in message


def preview(path, tmp_path):
    (tmp_path / "textures").mkdir()
    (tmp_path / "textures" / "frost.png").write_bytes(encoded("PNG"))
    names = ["--names", "contrast", "--frost-textures", str(tmp_path / "textures")]
    return cli.main(["corrupt", "--image", str(path), "--preview", str(tmp_path / "out.png"), *names])


def test_the_image_of_a_preview_starts_none_either(tmp_path, ghostscript, capsys):
    path = tmp_path / "x.png"
    path.write_bytes(EPS)
    code = preview(path, tmp_path)
    assert not ghostscript.exists(), "Ghostscript was started"
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert f"{path} cannot be read as an image (its content is none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)" in error


OTHER_FORMATS = ("DDS", "EPS", "ICO", "JPEG2000", "PCX", "PDF", "SGI", "TGA")


@pytest.mark.parametrize("form", OTHER_FORMATS)
def test_a_format_is_known_by_its_content_not_by_its_ending(tmp_path, form):
    root = classes(tmp_path, **{"x.png": encoded(form)})
    with pytest.raises(ValueError, match="x.png cannot be read as an image"):
        data.load_image_folder(root)


UNUSABLE = {
    "many pixels": of_size(12_000, 12_000),  # Pillow warns here, and decodes
    "very many pixels": of_size(100_000, 100_000),
    "no pixels": of_size(0, 5),
    "truncated": encoded("PNG", pixels(0, (64, 64, 3)))[:-200],
    "truncated JPEG": encoded("JPEG", pixels(0, (64, 64, 3)))[:700],
    "floating point": b"Pf\n2 2\n-1.0\n" + bytes(16),
    "empty": b"",
    "more than 16 bits": encoded("TIFF", np.full((4, 4), 70_000, np.int32)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_read_is_one_line_with_the_path(tmp_path, name, place):
    path = tmp_path / "x.png"
    path.write_bytes(UNUSABLE[name])
    with pytest.raises(ValueError, match="x.png cannot be read as an image") as error:
        PLACES[place](path)()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_preview_of_it_ends_with_that_line(tmp_path, name, capsys):
    path = tmp_path / "x.png"
    path.write_bytes(UNUSABLE[name])
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # as for users: Pillow's own warning would be a second line
        code = preview(path, tmp_path)
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1), error
    assert str(path) in error


def test_a_preview_of_no_file_names_it(tmp_path, capsys):
    assert preview(tmp_path / "none.png", tmp_path) == 2
    assert f"no image file at {tmp_path / 'none.png'}" in capsys.readouterr().err


READ = {
    "a.bmp": encoded("BMP"),
    "a.gif": encoded("GIF"),
    "a.jfif": encoded("JPEG"),
    "a.jpeg": encoded("JPEG"),
    "a.JPG": encoded("JPEG"),
    "a.pgm": encoded("PPM", pixels()[..., 0]),
    "a.png": encoded("PNG"),
    "a.ppm": encoded("PPM"),
    "a.tif": encoded("TIFF"),
    "a.tiff": encoded("TIFF", compression="tiff_lzw"),
    "a.webp": encoded("WEBP", lossless=True),
    "named_otherwise.png": encoded("JPEG"),
}


def test_what_cameras_scanners_and_other_libraries_save_is_read(tmp_path):
    assert len(data.load_image_folder(classes(tmp_path, **READ))) == 2 * len(READ)


def test_of_several_frames_or_pages_the_first_is_read(tmp_path):
    first, second = (Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 200))
    for form in ("GIF", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        first.save(
            buffer, form, save_all=True, append_images=[second], **({"lossless": True} if form == "WEBP" else {})
        )
        root = classes(tmp_path / form, **{f"a.{form.lower()}": buffer.getvalue()})
        assert np.unique(data.load_image_folder(root).images).tolist() == [10], form


def test_sixteen_bits_keep_their_upper_half(tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    pgm = b"P5 8 8 65535\n" + values.astype(">u2").tobytes()
    files = {"a.png": encoded("PNG", values), "b.tif": encoded("TIFF", values), "c.pgm": pgm}
    for image in data.load_image_folder(classes(tmp_path, **files)).images:
        np.testing.assert_array_equal(image, np.repeat((values >> 8)[..., None], 3, axis=2))


HIDDEN = {
    ".ipynb_checkpoints/0-checkpoint.png": encoded("PNG"),
    "._0.png": b"\0\5\x16\7\0\2\0\0Mac OS X",
    ".hidden.jpg": encoded("JPEG"),
    "__MACOSX/0.png": encoded("PNG"),
    "__MACOSX/._0.png": b"\0\5\x16\7",
    "@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg": encoded("JPEG"),
    ".DS_Store": b"\0",
    "Thumbs.db": b"\0",
    "desktop.ini": b"\0",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_systems_leave_behind_is_no_image_of_a_class(tmp_path, name):
    root = classes(tmp_path, **{"0.png": encoded("PNG"), name: HIDDEN[name]})
    loaded = data.load_image_folder(root)
    assert (len(loaded), loaded.class_names) == (2, ("cat", "dog"))


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git"])
def test_nor_is_it_a_class(tmp_path, name):
    root = classes(tmp_path, **{"0.png": encoded("PNG")})
    (root / name).mkdir()
    (root / name / "0.png").write_bytes(encoded("PNG"))
    assert data.load_image_folder(root).class_names == ("cat", "dog")
    assert data.stream_image_folder(root, image_size=8).class_names == ("cat", "dog")


def test_a_warning_counts_what_was_not_read_by_ending(tmp_path):
    files = {"0.png": encoded("PNG"), "1.heic": b"", "2.HEIC": b"", "deeper/3.avif": b"", "scan": b"", "notes.txt": b""}
    root = classes(tmp_path, **files)
    (root / "flat.jpg").write_bytes(encoded("JPEG"))
    with pytest.warns(UserWarning, match="9 files were not read") as caught:
        assert len(data.load_image_folder(root)) == 2
    (message,) = (str(each.message) for each in caught)
    for part in (".heic 4", ".avif 2", "without ending 2", ".jpg beside the classes 1"):
        assert part in message
    assert ".txt" not in message
    with pytest.warns(UserWarning, match="9 files were not read"):
        data.stream_image_folder(root, image_size=8)


def test_a_class_or_folder_without_images_says_what_it_holds(tmp_path):
    root = classes(tmp_path / "set", **{"0.heic": b"", "1.heic": b""})
    with pytest.raises(ValueError, match=r"class 'cat' of .* has no images .*it holds \.heic 2; remove"):
        data.load_image_folder(root)
    with pytest.raises(ValueError, match=r"has no sub-folders; it needs one per class.* \(it holds \.heic 2\)"):
        data.load_image_folder(root / "cat")
