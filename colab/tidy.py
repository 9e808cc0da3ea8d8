"""Keeps the notebooks as they are kept here: `python colab/tidy.py colab/*.ipynb`.

Outputs, execution counts and machine metadata go. The first line becomes a badge that opens the notebook in Colab, if
`pyproject.toml` names the repository (`[project.urls]`, `Repository = "https://github.com/OWNER/NAME"`), and else says
how to open it by hand. Exits with 1 when something changed, as pre-commit expects.
"""

import json
import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
GITHUB = "https://github.com/"
COLAB = "https://colab.research.google.com/github"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
BY_HAND = "*To open this in Colab: File > Upload notebook, in colab.research.google.com.*"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def first_line(name: str, repository: str) -> str:
    """Returns the badge of the notebook `name` in a GitHub repository, or what to do without one."""
    if not repository.startswith(GITHUB):
        return BY_HAND
    owner_and_name = repository.removeprefix(GITHUB).removesuffix(".git").strip("/")
    return f"[![Open In Colab]({BADGE})]({COLAB}/{owner_and_name}/blob/main/colab/{name})"


def repository() -> str:
    """Returns the repository's address from `pyproject.toml`, empty if it is not named."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    return project.get("urls", {}).get("Repository", "")


def tidied(text: str, line: str) -> str:
    """Returns the notebook of `text` with `line` on top, and without outputs and machine metadata."""
    notebook = json.loads(text)
    notebook["metadata"] = METADATA
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"] = {}
        cell["id"] = f"cell-{number}"
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    words = notebook["cells"][0]["source"]
    while words and not words[0].startswith("#"):
        words.pop(0)
    words[:0] = [f"{line}\n", "\n"]
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main(paths: list[str]) -> int:
    """Tidies the files; returns how many changed, at most 1."""
    changed = False
    for path in map(pathlib.Path, paths):
        text = path.read_text()
        tidy = tidied(text, first_line(path.name, repository()))
        if tidy != text:
            path.write_text(tidy)
            changed = True
    return int(changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
