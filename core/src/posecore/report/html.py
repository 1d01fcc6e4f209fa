"""HTML that cannot forget to escape: text becomes markup only through `tag`."""

from html import escape


class Html(str):
    """Markup. Any other string is text, and is escaped where it joins markup."""


Content = str | None
VOID = frozenset({"br", "img", "meta", "path", "line", "circle", "rect"})


def escaped(content: Content) -> Html:
    if content is None:
        return Html("")
    return content if isinstance(content, Html) else Html(escape(content))


def tag(name: str, /, *children: Content, **attributes: str | float | None) -> Html:
    """An element. `class_` and `for_` lose their underscore, others turn into dashes; None leaves an attribute out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not children:
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*parts: Content) -> Html:
    return Html("".join(escaped(part) for part in parts))


def number(value: float | None, digits: int = 4) -> str:
    """Four significant digits, thousands apart: 0.01234, 12 345."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:.{digits}g}"
