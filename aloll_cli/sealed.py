"""HTML pages that need no network and can run nothing but their own script, whatever the text says that they show."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

ESCAPED = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy of a page: one style and one script are allowed, by their hashes, and images in the file."""
    allowed = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:"
    return f"{allowed}; base-uri 'none'; form-action 'none'"


def data(value: Any) -> str:
    """JSON for a ``<script type="application/json">``: no text in it can end the element. Raises ValueError for NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escaped in ESCAPED.items():
        text = text.replace(character, escaped)
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
