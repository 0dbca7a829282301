"""Values to a page by a template of this folder: everything that comes from data is escaped."""

from __future__ import annotations

from pathlib import Path

import jinja2


def open_template(name: str) -> jinja2.Template:
    """The template `name`, which raises where it is not given a value that it shows."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name)
