# SPDX-License-Identifier: GPL-3.0-or-later
"""A character as an asset: a .blend whose collection Blender's asset browser offers, or Append and Link take."""

import bpy

from .contract.npz_file import FileError


class AssetError(FileError):
    """An asset that could not be written. The message is one sentence for the user."""


def write_asset(path, out, collection, template):
    """Writes a character's collection and all it needs to `path` (.blend), marked as an asset; `out` is its name in errors.

    The open file stays as it is: there the collection is no asset. Raises `AssetError`.
    """
    licence = str(template.meta.get("licence") or "unknown")
    collection.asset_mark()
    try:
        data = collection.asset_data
        data.description = f"{template.meta.get('name') or 'Character'}: rigged body with face. Licence: {licence}"
        for tag in ("fullbody", "character"):
            data.tags.new(tag, skip_if_exists=True)
        bpy.data.libraries.write(str(path), {collection}, compress=True)
    except (OSError, RuntimeError) as error:
        raise AssetError(f"Cannot write {out}: {str(error).strip().removeprefix('Error: ')}.") from error
    finally:
        collection.asset_clear()
