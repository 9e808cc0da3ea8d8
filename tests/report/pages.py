"""What a reader finds on a page: its texts by tag, its ids, what it would load, and the cells of its tables."""

import html.parser

LOADING_ATTRIBUTES = ("src", "srcset", "href", "xlink:href", "data", "action", "poster", "background")
KEPT = ("figcaption", "li", "td", "th", "title", "h2", "h3", "pre", "text", "p", "dd")


class Page(html.parser.HTMLParser):
    """Collects what a page would load, its ids and tags, the text of elements by tag, and its tables line by line."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.ids, self.tags, self.open, self.texts, self.tables = [], [], [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in LOADING_ATTRIBUTES:
                self.loads.append(value)
            if name == "id":
                self.ids.append(value)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in KEPT:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
            if tag in ("td", "th"):
                self.tables[-1][-1].append(self.texts[tag][-1].strip().replace("\u00a0", " "))

    def handle_data(self, data):
        for tag in self.open:
            self.texts[tag][-1] += data

    def tables_with(self, *headings):
        """Returns the lines of every table that has all of these headings, each a dict by heading."""
        found = [table for table in self.tables if set(headings) <= set(table[0])]
        return [[dict(zip(table[0], line, strict=True)) for line in table[1:]] for table in found]

    def protocols(self):
        """Returns for each arm, in the order of the page, what was done by item, and whether that is met."""
        tables = [[line[:4] for line in table[1:]] for table in self.tables if table[0][:2] == ["Item", "Protocol"]]
        return [{item: (here, met) for item, _, here, met in lines} for lines in tables]
