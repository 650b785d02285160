"""Zip the add-on for Blender with the licence: python scripts/pack_blender_addon.py dist

It needs no installed package. The same files give the same zip.
"""

from __future__ import annotations

import os
import secrets
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
ADDON = ROOT / "viewer" / "blender"


def pack(folder: Path) -> Path:
    """Write the zip into a folder, whole or not at all."""
    version = tomllib.loads((ADDON / "blender_manifest.toml").read_text(encoding="utf-8"))["version"]
    target = folder / f"renderformer-blender-{version}.zip"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.tmp.zip")
    files = [*sorted(ADDON.glob("*.py")), ADDON / "blender_manifest.toml", ROOT / "LICENSE"]
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                # A date, so that the bytes do not depend on when the files were checked out.
                archive.writestr(zipfile.ZipInfo(path.name, (2026, 1, 1, 0, 0, 0)), path.read_bytes(), 8)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


if __name__ == "__main__":
    print(pack(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")))
