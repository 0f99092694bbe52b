"""Builds the Blender extension:  python build_addon.py -o dist/

Install the zip in Blender by Preferences > Get Extensions > Install from Disk.
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

from fullbody_core import __version__
from fullbody_core.addon_package import PACKAGE_NAME, AddonPackageError, zip_addon
from fullbody_core.contract.character import CharacterTemplate
from fullbody_core.contract.npz_file import FileError


def main(argv=None):
    parser = argparse.ArgumentParser(description="Builds the Blender extension's zip.")
    parser.add_argument("-o", "--output", default="dist", metavar="PATH", help="folder, or name of the .zip (default: dist)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--character", metavar="FILE", help="character template to include instead of the open character")
    choice.add_argument("--no-character", action="store_true", help="include no character")
    arguments = parser.parse_args(argv)
    output = Path(arguments.output)
    try:
        if output.suffix != ".zip":
            output = output / f"{PACKAGE_NAME}-{__version__}.zip"
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            path = zip_addon(output, None if arguments.no_character else _character(arguments.character, Path(folder)))
    except (AddonPackageError, FileError) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Cannot write {output}: {error.strerror}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return 130
    content = path.read_bytes()
    print(f"{path}  {len(content)} bytes  sha256 {hashlib.sha256(content).hexdigest()}")
    return 0


def _character(chosen, folder):
    """Path of the template to include: the chosen one once it has been read, or the open character."""
    if chosen is not None:
        CharacterTemplate.load(chosen)
        return chosen
    # Only this choice needs torch and, the first time, the minutes of baking.
    from fullbody_core.body.lbs import to_character_template
    from fullbody_core.body.load_body import load_body
    from fullbody_core.contract.full_body import full_body_template
    from fullbody_core.face.load_face import load_face
    from fullbody_core.full_body.bridges import recipe_for

    path, body, face = folder / "open_character.npz", load_body("open"), load_face("open")
    full_body_template(to_character_template(body), face, recipe_for(body, face)).save(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
