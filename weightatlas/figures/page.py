"""A plain page around figures: loads nothing, follows light and dark, fits 320 pixels and 4K."""

from __future__ import annotations

from .figure import BREAKPOINTS, MARGIN
from .lettering import MONO, SANS
from .scene import escape
from .theme import INKS, Theme, check_choice


def page(title: str, body: str, *, theme: Theme = "auto") -> str:
    """A complete HTML document.

    Args:
        title: text, escaped here.
        body: HTML, trusted: made of figures and tables of this package.
        theme: ``"auto"`` follows the reader's system.
    """
    check_choice("theme", theme, Theme)

    def variables(name: str) -> str:
        return ":root{" + f"color-scheme:{name};" + "".join(f"--{k}:{v};" for k, v in INKS[name].items()) + "}"

    chosen = variables("light" if theme == "auto" else theme)
    if theme == "auto":
        chosen += "@media (prefers-color-scheme:dark){" + variables("dark") + "}"
    css = (
        f"{chosen}*{{box-sizing:border-box}}body{{margin:0;background:var(--ground);color:var(--ink);"
        f"font:15px/1.55 {SANS}}}main{{max-width:{BREAKPOINTS[-1]}px;margin:0 auto;padding:24px 0 64px}}"
        f"h1,h2,p,pre,nav,dl,details,.wa-scroll{{margin-left:{MARGIN}px;margin-right:{MARGIN}px}}"
        "h1{font-size:24px;line-height:1.25;margin-bottom:4px;overflow-wrap:anywhere}"
        "h2{font-size:18px;margin-top:44px;margin-bottom:4px;overflow-wrap:anywhere}"
        "section{margin-top:48px}section>h2{margin-top:0}p{max-width:70ch;overflow-wrap:anywhere}"
        f"code{{font-family:{MONO};font-size:.94em;overflow-wrap:anywhere}}.quiet{{color:var(--quiet)}}"
        ".unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}"
        "code,pre{font-variant-ligatures:none}a{color:inherit}summary{cursor:pointer}nav a{margin-right:16px}"
        f"pre{{font:13px/1.5 {MONO};white-space:pre-wrap;overflow-wrap:anywhere;background:var(--wash);"
        "padding:10px 12px;border-radius:8px;margin-top:8px;margin-bottom:8px}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{css}</style></head><body><main>{body}</main></body></html>\n'
    )
