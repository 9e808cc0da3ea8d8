"""Links from `code` in prose to the function or class that it names, where the name leaves no doubt."""

import collections
import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

_NAME = re.compile(r"([A-Za-z_][\w.]*)(\(.*\))?")
_TELLING = re.compile(r"\w+_\w+|[A-Z]\w*[a-z]\w*")  # `accuracy` or `load` may be anything, `noise_floor` may not
_KINDS = ("function", "class", "data")
_PACKAGE = "jaxprune."


class LinkNames(SphinxPostTransform):
    """Turns literals such as `metrics.noise_floor` and `noise_floor` into links."""

    default_priority = 900

    def run(self, **kwargs):
        """Changes the document in place."""
        objects = self.env.domains["py"].objects
        by_last_name = collections.defaultdict(list)
        for full_name, found in objects.items():
            if found.objtype in _KINDS:
                by_last_name[full_name.rpartition(".")[2]].append(full_name)
        for literal in list(self.document.findall(nodes.literal)):
            match = _NAME.fullmatch(literal.astext())
            if not match or isinstance(literal.parent, nodes.reference):
                continue
            target = self._target(match[1], objects, by_last_name)
            if target is not None and objects[target].node_id not in _ids_around(literal):
                found = objects[target]
                link = make_refnode(
                    self.app.builder, self.env.docname, found.docname, found.node_id, literal.deepcopy(), target
                )
                literal.replace_self(link)

    def _target(self, name: str, objects, by_last_name) -> str | None:
        full_name = name if name.startswith(_PACKAGE) else _PACKAGE + name
        if full_name in objects and objects[full_name].objtype in _KINDS:
            return full_name
        candidates = by_last_name.get(name, ())
        return candidates[0] if len(candidates) == 1 and _TELLING.fullmatch(name) else None


def _ids_around(node) -> set[str]:
    """Returns the ids of the definitions that a node stands in: nothing links to itself."""
    ids = set()
    while node is not None:
        if node.tagname == "desc":
            ids.update(
                name
                for signature in node.findall()
                if signature.tagname == "desc_signature"
                for name in signature["ids"]
            )
        node = node.parent
    return ids


def setup(app):
    """Adds the transform."""
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
