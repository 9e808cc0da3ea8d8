"""The documentation: its Python runs, and it builds without a warning, complete and self-contained."""

import html.parser
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

import jaxprune

ROOT = pathlib.Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES_WITH_CODE = sorted(page for page in DOCS.glob("*.md") if "```python" in page.read_text())
TOOLS = ("sphinx", "furo", "myst_parser")


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.S | re.M))
    exec(compile(code, page.name, "exec"), {})


class Links(html.parser.HTMLParser):
    """What a page links to, what it loads, and the names that can be linked to in it."""

    def __init__(self):
        super().__init__()
        self.links, self.loads, self.names = [], [], set()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names.add(attributes.get("id"))
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag in ("script", "img", "iframe", "link"):
            self.loads.append(attributes.get("src") or attributes.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    missing = [tool for tool in TOOLS if importlib.util.find_spec(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'jaxprune[docs]'")
    out = tmp_path_factory.mktemp("site")
    # In a process of its own: the tests' type checks change the signatures that the pages show.
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(out / "trees"), DOCS, out / "html"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {}
    for path in (out / "html").rglob("*.html"):
        pages[path] = Links()
        pages[path].feed(path.read_text())
    return pages


def test_no_page_loads_anything_from_elsewhere(site):
    outside = {f"{path.name}: {load}" for path, page in site.items() for load in page.loads if "//" in load}
    assert not outside


def test_every_link_inside_the_site_arrives(site):
    wrong = []
    for path, page in site.items():
        for link in page.links:
            target, _, name = link.partition("#")
            if re.match(r"\w+:", link):
                continue
            file = (path.parent / target).resolve() if target else path
            if not file.exists() or (name and file in site and name not in site[file].names):
                wrong.append(f"{path.name}: {link}")
    assert not wrong


def test_every_export_is_on_its_page(site):
    rooms = [getattr(jaxprune, room) for room in jaxprune.__all__ if room != "__version__"]
    names = set().union(*(page.names for page in site.values()))
    wanted = {f"{room.__name__}.{name}" for room in rooms for name in getattr(room, "__all__", ())}
    assert len(wanted) > 100
    assert {room.__name__ for room in rooms} <= {name.removeprefix("module-") for name in names if name}
    missing = {name for name in wanted - names if f"module-{name}" not in names}
    assert not missing


def test_formulas_are_in_the_pages(site):
    metrics = next(path for path in site if path.parent.name == "api" and path.stem == "metrics").read_text()
    assert metrics.count("<math") >= 10
    assert "$$" not in metrics


def test_an_undocumented_export_is_found():
    path = DOCS / "_extensions" / "exports.py"
    pytest.importorskip("sphinx", reason="the docs extra is not installed")
    specification = importlib.util.spec_from_file_location("exports", path)
    exports = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(exports)
    room = type(sys)("room")
    exec("import typing\ndef bare(): pass\nclass Row(typing.NamedTuple):\n    a: int\nLIMIT = 3", vars(room))
    room.__all__ = ["bare", "Row", "LIMIT"]
    assert exports.undocumented(room) == ["room.bare", "room.Row"]
    assert exports.undocumented(jaxprune.metrics) == []


def test_names_in_prose_are_links(site):
    page = next(page for path, page in site.items() if path.name == "faq.html")
    assert "api/metrics.html#jaxprune.metrics.negative_log_likelihood" in page.links
    assert "api/pruning.html#jaxprune.pruning.masked_optimizer" in page.links


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", citation, flags=re.M)[1] == jaxprune.__version__
