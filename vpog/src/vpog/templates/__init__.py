"""Pictures of objects from known directions: made, kept in files, and read back."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpog.templates.description import describe_templates
    from vpog.templates.onboarding import (
        load_templates,
        save_templates,
        templates_key,
        templates_of_mesh,
    )
    from vpog.templates.store import TemplateStore
    from vpog.templates.writing import Rendered, render_templates

_HOMES = {
    "describe_templates": "description",
    "load_templates": "onboarding",
    "save_templates": "onboarding",
    "templates_key": "onboarding",
    "templates_of_mesh": "onboarding",
    "TemplateStore": "store",
    "Rendered": "writing",
    "render_templates": "writing",
}

__all__ = [
    "Rendered",
    "TemplateStore",
    "describe_templates",
    "load_templates",
    "render_templates",
    "save_templates",
    "templates_key",
    "templates_of_mesh",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
