"""Removes outputs, execution counts and machine metadata from notebooks: `python colab/strip_outputs.py FILE...`.

Exits with 1 when something was removed, as pre-commit expects.
"""

import json
import pathlib
import sys

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def stripped(text: str) -> str:
    """Returns the notebook of `text` with code, words and nothing else."""
    notebook = json.loads(text)
    notebook["metadata"] = METADATA
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"] = {}
        cell["id"] = f"cell-{number}"
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main(paths: list[str]) -> int:
    """Strips the files; returns how many changed, at most 1."""
    changed = False
    for path in map(pathlib.Path, paths):
        text = path.read_text()
        if stripped(text) != text:
            path.write_text(stripped(text))
            changed = True
    return int(changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
