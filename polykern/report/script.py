"""Text of strangers made safe to show: model names, class names, tokens, file names.

Two rules hold every page together: data reaches a page only through `json_for_script`, and a page
shows it only as text. `visible` keeps a label from reordering or hiding what stands around it.
"""

import json
import math
import unicodedata
from typing import Any

_SCRIPT = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}
# marks, embeddings, overrides, isolates, line and paragraph separators, the byte order mark
_UNSEEN = frozenset((0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF))


def json_for_script(value: Any) -> str:
    """`value` as JSON that can stand inside a <script> element of an HTML page.

    value   what json can write; NaN and infinity become null

    Returns ASCII: <, > and & and everything past ASCII (U+2028 and U+2029 among it) are \\u
    escapes, so no text can end the element, open a comment in it or depend on the page's encoding.
    JSON.parse gives back the value exactly, lone surrogates included.
    """
    return json.dumps(_finite(value), ensure_ascii=True, allow_nan=False).translate(_SCRIPT)


def visible(text: str) -> str:
    """`text` with every character that hides or reorders others replaced by one that shows.

    C0 controls and DEL become their control pictures, bidirectional controls, line separators and
    C1 controls a bracketed code point, lone surrogates U+FFFD. All else stays as it is.
    """
    return "".join(map(_shown, text))


def visible_all(value: Any) -> Any:
    """`visible` for every string in a tree of dicts and lists, keys included."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(k)): visible_all(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [visible_all(v) for v in value]
    return value


def _shown(c: str) -> str:
    code = ord(c)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code < 0xE000:
        return "\ufffd"
    if code in _UNSEEN or unicodedata.category(c) == "Cc":
        return f"[U+{code:04X}]"
    return c


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
