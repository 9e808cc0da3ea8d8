"""Draws the rooms of jaxprune and which imports which, as `docs/images/rooms.svg`: `python docs/draw_rooms.py`."""

import ast
import pathlib

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch

ROOT = pathlib.Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "rooms.svg"
# Leaves that every room may import are no news; drawing their arrows would hide the others.
SHARED = ("files", "names", "randomness")
_BEND = -1.0  # of a line around a room, over its length
_INK, _PAPER, _LINE = "#1b1f24", "#eef3f8", "#8a94a0"


def imports() -> dict[str, set[str]]:
    """Returns for each room the rooms that its files import, read off the import statements."""
    rooms = {}
    for path in sorted((ROOT / "jaxprune").rglob("*.py")):
        room = path.relative_to(ROOT / "jaxprune").parts[0].removesuffix(".py")
        if not room.startswith("__"):
            rooms.setdefault(room, set()).update(imported_rooms(path))
    return {room: {other for other in others if other in rooms and other != room} for room, others in rooms.items()}


def imported_rooms(path: pathlib.Path) -> set[str]:
    """Returns the rooms that one file imports, at its head or inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("jaxprune.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "jaxprune":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxprune."):
            found.add(node.module.split(".")[1])
    return found


def arrows() -> set[tuple[str, str]]:
    """Returns the arrows of the picture: imports that do not follow from others, those of shared leaves left out."""
    direct = {room: others - set(SHARED) for room, others in imports().items() if room not in SHARED}
    below = {room: set().union(*(reachable(other, direct) for other in others)) for room, others in direct.items()}
    return {(room, other) for room, others in direct.items() for other in others - below[room]}


def reachable(room: str, direct: dict[str, set[str]]) -> set[str]:
    """Returns all that a room imports, directly or not."""
    return direct[room].union(*(reachable(other, direct) for other in direct[room]))


def draw() -> None:
    """Writes the picture: a room stands above all that it imports."""
    direct = {room: others - set(SHARED) for room, others in imports().items() if room not in SHARED}

    def level(room: str) -> int:
        return 1 + max(map(level, direct[room]), default=0)

    rows: dict[int, list[str]] = {}
    for room in sorted(direct):
        rows.setdefault(level(room), []).append(room)
    widest = max(map(len, rows.values()))
    places = {}
    for height in sorted(rows, reverse=True):
        # Rooms stand below those that import them, so that fewer arrows cross.
        above = {room: [places[other][0] for other in places if room in direct[other]] for room in rows[height]}
        row = sorted(rows[height], key=lambda room: (sum(above[room]) / max(1, len(above[room])), room))
        places |= {room: ((index + 0.5) * widest / len(row), float(height)) for index, room in enumerate(row)}
    places |= {room: ((index + 0.5) * widest / len(SHARED), 0.0) for index, room in enumerate(SHARED)}
    plt.rcParams["svg.hashsalt"] = "rooms"  # the same names inside of the file at every drawing
    plt.rcParams["svg.fonttype"] = "none"
    figure, axes = plt.subplots(figsize=(1.75 * widest, 0.95 * (len(rows) + 1)))
    box = {"boxstyle": "round,pad=0.45", "facecolor": _PAPER, "edgecolor": _INK, "linewidth": 0.8}
    for room, (x, y) in places.items():
        axes.text(x, y, room, ha="center", va="center", bbox=box, color=_INK, fontsize=11)
    for start, end in sorted(arrows()):
        upper, lower = places[start], places[end]
        # A straight line down past a room between the two would seem to be that room's.
        is_hidden = any(each[0] == upper[0] == lower[0] and lower[1] < each[1] < upper[1] for each in places.values())
        bend = f"arc3,rad={_BEND if is_hidden else 0}"
        line = FancyArrowPatch(upper, lower, arrowstyle="-", connectionstyle=bend, color=_LINE, zorder=0)
        line.set_gid(f"{start}_imports_{end}")
        axes.add_patch(line)
    axes.set(xlim=(0, widest), ylim=(-0.7, len(rows) + 0.5))
    axes.text(widest / 2, -0.55, "every room may import these", ha="center", color=_INK, fontsize=9)
    axes.axis("off")
    figure.savefig(PICTURE, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    draw()
