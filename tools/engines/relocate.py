"""The relocation of Java packages, as by maven-shade: it rewrites names in the constant pools of class files.

The Iceberg jar on PyPI lacks the Jackson that its classes name under a package of their own; Spark's Jackson, of the
same interface, is given that name here. Format: https://docs.oracle.com/javase/specs/jvms/se17/html/jvms-4.html#jvms-4.4
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

# Bytes of a constant after its tag; UTF8 (tag 1) has its own length.
SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
UTF8 = 1
TWO_SLOTS = {5, 6}  # long and double


def relocated(jars: Iterable[Path], old: str, new: str, destination: Path) -> Path:
    """Write the classes of package `old` in `jars` to `destination`, a jar, as package `new`; return it."""
    old_path, new_path = old.replace(".", "/"), new.replace(".", "/")
    names = [(old_path.encode(), new_path.encode()), (old.encode(), new.encode())]
    with zipfile.ZipFile(destination, "w") as output:
        for jar in jars:
            with zipfile.ZipFile(jar) as source:
                for name in source.namelist():
                    if name.startswith(old_path) and name.endswith(".class"):
                        output.writestr(name.replace(old_path, new_path, 1), _renamed(source.read(name), names))
    return destination


def _renamed(code: bytes, names: list[tuple[bytes, bytes]]) -> bytes:
    (count,) = struct.unpack_from(">H", code, 8)
    position, slot, output = 10, 1, [code[:10]]
    while slot < count:
        tag = code[position]
        if tag == UTF8:
            (length,) = struct.unpack_from(">H", code, position + 1)
            text = code[position + 3 : position + 3 + length]
            position += 3 + length
            for old, new in names:
                text = text.replace(old, new)
            output.append(struct.pack(">BH", UTF8, len(text)) + text)
        else:
            output.append(code[position : position + 1 + SIZES[tag]])
            position += 1 + SIZES[tag]
        slot += 2 if tag in TWO_SLOTS else 1
    return b"".join(output) + code[position:]
