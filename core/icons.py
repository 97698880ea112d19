"""The portal's icons: 16 px line drawings as SVG path data, drawn in the colour of the text."""

# ruff: noqa: E501  (a drawing is one line)

from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

# Each entry is what stands inside <svg viewBox="0 0 16 16">. Lines inherit stroke from the stylesheet.
ICONS: dict[str, str] = {
    "alert": '<path d="M8 2 1.8 13h12.4z"/><path d="M8 6.5v3M8 11.4v.1"/>',
    "archive": '<path d="M2 3h12v3H2zM3 6v7.5h10V6M6.5 9h3"/>',
    "arrow-left": '<path d="M13 8H3M7 4 3 8l4 4"/>',
    "arrow-right": '<path d="M3 8h10M9 4l4 4-4 4"/>',
    "bell": '<path d="M4 11V7a4 4 0 0 1 8 0v4l1 1.5H3zM6.8 14.3h2.4"/>',
    "book": '<path d="M3 2.5h8.5A1.5 1.5 0 0 1 13 4v9.5H4.5A1.5 1.5 0 0 1 3 12zM3 12a1.5 1.5 0 0 1 1.5-1.5H13"/>',
    "box": '<path d="M8 1.8 13.5 5v6L8 14.2 2.5 11V5zM2.5 5 8 8l5.5-3M8 8v6"/>',
    "calendar": '<path d="M2.5 3.5h11v10h-11zM2.5 6.5h11M5.5 2v3M10.5 2v3"/>',
    "chart": '<path d="M2.5 2.5v11h11M5.5 11V8M8.5 11V5M11.5 11V7"/>',
    "check": '<path d="m3 8.5 3.2 3.2L13 4.8"/>',
    "check-circle": '<circle cx="8" cy="8" r="6"/><path d="m5.3 8.2 1.9 1.9 3.5-3.8"/>',
    "chevron-down": '<path d="m4 6 4 4 4-4"/>',
    "chevron-right": '<path d="m6 4 4 4-4 4"/>',
    "circle": '<circle cx="8" cy="8" r="5.5"/>',
    "clock": '<circle cx="8" cy="8" r="6"/><path d="M8 4.5V8l2.3 1.6"/>',
    "cpu": '<path d="M4 4h8v8H4zM6.5 6.5h3v3h-3zM6 1.8V4M10 1.8V4M6 12v2.2M10 12v2.2M1.8 6H4M1.8 10H4M12 6h2.2M12 10h2.2"/>',
    "database": '<ellipse cx="8" cy="3.8" rx="5" ry="2"/><path d="M3 3.8v8.4c0 1.1 2.2 2 5 2s5-.9 5-2V3.8M3 8c0 1.1 2.2 2 5 2s5-.9 5-2"/>',
    "download": '<path d="M8 2v8M4.8 7 8 10.2 11.2 7M2.5 13.5h11"/>',
    "edit": '<path d="m10.5 3 2.5 2.5L5.5 13H3v-2.5z"/>',
    "eye": '<path d="M1.5 8S4 3.8 8 3.8 14.5 8 14.5 8 12 12.2 8 12.2 1.5 8 1.5 8z"/><circle cx="8" cy="8" r="1.8"/>',
    "filter": '<path d="M2 4h12M4.5 8h7M6.8 12h2.4"/>',
    "flag": '<path d="M3.5 14V2.5h8L10 5.5l1.5 3h-8"/>',
    "globe": '<circle cx="8" cy="8" r="6"/><path d="M2 8h12M8 2c2 1.8 2.8 3.8 2.8 6S10 12.2 8 14c-2-1.8-2.8-3.8-2.8-6S6 3.8 8 2z"/>',
    "hand": '<path d="M5 8.5V4a1 1 0 0 1 2 0v3.5V2.8a1 1 0 0 1 2 0v4.7V4a1 1 0 0 1 2 0v5.5A4.5 4.5 0 0 1 6.5 14C4.6 14 3.7 12.5 2.8 10.6l-.6-1.4a1 1 0 0 1 1.7-1z"/>',
    "history": '<path d="M2.5 8A5.5 5.5 0 1 0 4.3 4M2.2 2.5V5h2.5M8 5v3l2 1.4"/>',
    "home": '<path d="m2 7.5 6-5 6 5M3.8 6.3v7.2h8.4V6.3M6.5 13.5V9.5h3v4"/>',
    "info": '<circle cx="8" cy="8" r="6"/><path d="M8 7.3v3.4M8 5.2v.1"/>',
    "layers": '<path d="M8 2 2 5.2l6 3.2 6-3.2zM2 8.2l6 3.2 6-3.2M2 11.2l6 3.2 6-3.2"/>',
    "list": '<path d="M5.5 4H14M5.5 8H14M5.5 12H14M2.5 4h.1M2.5 8h.1M2.5 12h.1"/>',
    "key": '<path d="M7.5 8.5 13 3M11 5l2 2M9.5 6.5l1.5 1.5"/><circle cx="5" cy="11" r="2.8"/>',
    "lock": '<path d="M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5"/>',
    "menu": '<path d="M2.5 4h11M2.5 8h11M2.5 12h11"/>',
    "message": '<path d="M2.5 3h11v7.5H8L4.8 13.2v-2.7H2.5z"/>',
    "minus": '<path d="M4 8h8"/>',
    "monitor": '<path d="M2 3h12v8H2zM6 14h4M8 11v3"/>',
    "moon": '<path d="M13.5 9.6A6 6 0 1 1 6.4 2.5a4.8 4.8 0 0 0 7.1 7.1z"/>',
    "more": '<circle class="disc" cx="3" cy="8" r="1.3"/><circle class="disc" cx="8" cy="8" r="1.3"/><circle class="disc" cx="13" cy="8" r="1.3"/>',
    "paperclip": '<path d="M12.5 7.3 7.6 12.2a2.9 2.9 0 0 1-4.1-4.1l5.3-5.3a1.9 1.9 0 0 1 2.7 2.7L6.4 10.6a.9.9 0 0 1-1.3-1.3l4.6-4.6"/>',
    "pause": '<path d="M5.5 3.5v9M10.5 3.5v9"/>',
    "phone": '<path d="M4.2 2.2h2.2l1 3-1.4 1.2a7.6 7.6 0 0 0 3.6 3.6l1.2-1.4 3 1v2.2c0 1-.8 1.9-1.8 1.9C6.5 13.7 2.3 9.5 2.3 4c0-1 .9-1.8 1.9-1.8z"/>',
    "pin": '<path d="M5.5 2h5M6.3 2l-.5 4.7L4 9h8l-1.8-2.3L9.7 2M8 9v5"/>',
    "play": '<path d="M5 3v10l8-5z"/>',
    "plus": '<path d="M8 3v10M3 8h10"/>',
    "refresh": '<path d="M13.5 8A5.5 5.5 0 1 1 11.8 4M13.8 2.5V5h-2.5"/>',
    "restore": '<path d="M2.5 8A5.5 5.5 0 1 0 4.3 4M2.2 2.5V5h2.5"/>',
    "rocket": '<path d="M6 10 4 8s1-4.5 6-6c1.8-.5 3.5.2 3.5.2s.8 1.7.3 3.5c-1.3 5-5.8 6.3-5.8 6.3zM4 8H2l1.5-2.5h2M8 12v2l2.5-1.5v-2M3.5 11.5 2 14l2.5-1.5"/>',
    "scale": '<path d="M8 2v12M4 14h8M3 5h10M3 5l-1.8 4.5h3.6zM13 5l-1.8 4.5h3.6z"/>',
    "search": '<circle cx="7" cy="7" r="4.5"/><path d="m10.4 10.4 3.4 3.4"/>',
    "server": '<path d="M2.5 2.5h11v4.6h-11zM2.5 8.9h11v4.6h-11zM5 4.8h.1M5 11.2h.1"/>',
    "send": '<path d="M14 2 7 9M14 2 9.5 14 7 9 2 6.5z"/>',
    "shield": '<path d="M8 1.8 13 4v4c0 3-2 5.2-5 6.2C5 13.2 3 11 3 8V4z"/>',
    "skip": '<path d="M3 4v8l5-4zM8 4v8l5-4z"/>',
    "stop": '<path d="M4 4h8v8H4z"/>',
    "sun": '<circle cx="8" cy="8" r="2.8"/><path d="M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9"/>',
    "target": '<circle cx="8" cy="8" r="6"/><circle cx="8" cy="8" r="3"/><path d="M8 8h.1"/>',
    "terminal": '<path d="M2 3h12v10H2zM4.5 6l2 2-2 2M8.5 10.2h3"/>',
    "trash": '<path d="M3 4.5h10M6.5 4.5v-2h3v2M4.2 4.5l.6 9h6.4l.6-9"/>',
    "undo": '<path d="M5.5 3 2.5 6l3 3M2.5 6h7a4 4 0 0 1 0 8H6"/>',
    "user": '<circle cx="8" cy="5.3" r="2.8"/><path d="M2.8 14c.4-2.8 2.5-4.3 5.2-4.3s4.8 1.5 5.2 4.3"/>',
    "users": '<circle cx="6" cy="5.5" r="2.5"/><path d="M1.5 13.5c.3-2.5 2-4 4.5-4s4.2 1.5 4.5 4M10.5 3.2a2.5 2.5 0 0 1 0 4.6M12 9.9c1.5.5 2.3 1.8 2.5 3.6"/>',
    "wrench": '<path d="M13.5 4.8 11.3 7 9 4.7l2.2-2.2a3.6 3.6 0 0 0-4.7 4.7L2.4 11.3a1.6 1.6 0 0 0 2.3 2.3l4.1-4.1a3.6 3.6 0 0 0 4.7-4.7z"/>',
    "x": '<path d="m4 4 8 8M12 4l-8 8"/>',
    "x-circle": '<circle cx="8" cy="8" r="6"/><path d="m5.8 5.8 4.4 4.4M10.2 5.8l-4.4 4.4"/>',
    "zap": '<path d="M9 1.8 3 9.2h4.2L6.8 14.2 13 6.8H8.6z"/>',
    # States: filled discs so that they read at a glance and differ in shape, not only in colour.
    "status-ok": '<circle class="disc" cx="8" cy="8" r="7"/><path class="cut" d="m4.9 8.2 2.2 2.2 4-4.4"/>',
    "status-warn": '<path class="disc" d="M8 1.2 15.2 14H.8z"/><path class="cut" d="M8 6v3.6M8 11.6v.1"/>',
    "status-bad": '<path class="disc" d="M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1z"/>'
    '<path class="cut" d="m5.5 5.5 5 5M10.5 5.5l-5 5"/>',
    "status-neutral": '<circle class="ring" cx="8" cy="8" r="6"/><path d="M5.2 8h5.6"/>',
    "status-running": '<circle class="track" cx="8" cy="8" r="6"/><path class="spin" d="M8 2a6 6 0 0 1 6 6"/>',
}


def svg(name: str, css: str = "") -> SafeString:
    """The icon as inline SVG, hidden from screen readers: the word beside it speaks. An unknown name is a circle."""
    body = mark_safe(ICONS.get(name, ICONS["circle"]))  # noqa: S308  (constants above)
    return format_html(
        '<svg class="icon {}" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">{}</svg>',
        css,
        body,
    )
