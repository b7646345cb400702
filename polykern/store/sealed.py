"""JSON that is read strictly and carries a digest of itself.

The canonical form of a value has its keys sorted by code point, no blanks, everything behind ASCII escaped as
\\uXXXX, and no NaN or infinity. An object is sealed by the key `check`: the xxh3-128, in hexadecimal, of the
canonical form of the object without it. A byte that was changed anywhere in the file is noticed.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import xxhash

CHECK = "check"


def canonical(value: Any) -> bytes:
    """The canonical form of a JSON value; ValueError or TypeError for what is none."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def digest(data: bytes) -> str:
    """xxh3-128 of some bytes, 32 hexadecimal digits."""
    return str(xxhash.xxh3_128_hexdigest(data))


def sealed(body: Mapping[str, Any]) -> bytes:
    """The file that holds an object and its `check`, the same bytes for the same object."""
    whole = {**body, CHECK: digest(canonical(dict(body)))}
    return json.dumps(whole, indent=1, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


def unsealed(data: bytes) -> dict[str, Any]:
    """The object in a file, without its `check`; ValueError says why it is none or was changed."""
    body = parsed(data)
    check = body.pop(CHECK, None)
    if not isinstance(check, str):
        raise ValueError(f"{CHECK} is missing")
    if digest(canonical(body)) != check:
        raise ValueError(f"its content does not agree with its {CHECK}: it was changed")
    return body


def parsed(data: bytes) -> dict[str, Any]:
    """A JSON object, read strictly: UTF-8, no key twice, no NaN; ValueError says what is wrong."""
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as reason:
        raise ValueError(f"is no JSON: {reason}") from None
    if not isinstance(found, dict):
        raise ValueError("is no JSON object")
    return found


def the(found: Mapping[str, Any], key: str, *kinds: type) -> Any:
    """The value of a key that must be of one of these types (bool is no int); ValueError otherwise."""
    value = found.get(key)
    if type(value) not in kinds:
        raise ValueError(f"{key} is missing" if key not in found else f"{key} is of the wrong kind")
    return value


def number(found: Mapping[str, Any], key: str, least: int, most: int) -> int:
    """The value of a key that must be an integer within bounds; ValueError otherwise."""
    value: int = the(found, key, int)
    if not least <= value <= most:
        raise ValueError(f"{key} is not within {least} .. {most}")
    return value


def hexadecimal(found: Mapping[str, Any], key: str, digits: int) -> str:
    """The value of a key that must be that many lowercase hexadecimal digits; ValueError otherwise."""
    value: str = the(found, key, str)
    if not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
        raise ValueError(f"{key} is not {digits} hexadecimal digits")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
