"""Renders the description of a wheel as a package index does: render.py METADATA."""

import email
import html.parser
import sys

from readme_renderer import markdown


class Links(html.parser.HTMLParser):
    """Collects the targets of links and images, and the number of highlighted blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.blocks = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, "str | None"]]) -> None:
        self.targets += [value or "" for name, value in attrs if name in ("href", "src")]
        self.blocks += tag == "pre"


with open(sys.argv[1]) as file:
    metadata = email.message_from_file(file)
assert metadata["Description-Content-Type"] == "text/markdown", metadata["Description-Content-Type"]
rendered = markdown.render(metadata.get_payload())
assert rendered, "the description cannot be rendered"
links = Links()
links.feed(rendered)
relative = [t for t in links.targets if not t.startswith(("https://", "#"))]
assert not relative, f"the description has relative links: {relative}"
assert links.blocks == metadata.get_payload().count("```") // 2 > 0, f"{links.blocks} blocks of code are rendered"
