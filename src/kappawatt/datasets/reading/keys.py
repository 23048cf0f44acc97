"""Names that files give their series -> keys that streams take."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["LONGEST", "as_key"]

LONGEST = 100
OTHER = re.compile(r"[^A-Za-z0-9._~:-]+")


def as_key(name: str) -> str:
    """Return a series' name as a key: letters without accents, a hyphen for whatever a key may not have.

    Examples
    --------
    >>> as_key("HUD VL"), as_key("N.Y.C."), as_key("Île-de-France"), as_key("1044:surplus")
    ('HUD-VL', 'N.Y.C.', 'Ile-de-France', '1044:surplus')
    """
    plain = unicodedata.normalize("NFKD", name[: 4 * LONGEST]).encode("ascii", "ignore").decode()
    return OTHER.sub("-", plain).strip("-").lstrip(".:")[:LONGEST]
