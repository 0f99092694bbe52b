"""The Blender add-on as a package that runs: blender_addon, the contract it shares with the core, and a character.

In the source tree the contract lies on the core's side only. Here both are put together, as a folder for a Blender started
by the command line or as an extension's zip for Preferences > Get Extensions > Install from Disk.
"""

import importlib.util
import os
import secrets
import shutil
import tempfile
import zipfile
from pathlib import Path

from . import contract

PACKAGE_NAME = "fullbody_mocap"
"""The add-on's name inside Blender, which is the id in its manifest."""

TEMPLATE_PATH = "assets/open_character.npz"
"""Where the add-on looks for its default character."""

_NOT_IN_ZIP = "evaluate"
"""The add-on's folder of programs that only the core runs, to measure."""

_EARLIEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


class AddonPackageError(ValueError):
    """An add-on that cannot be put together. The message is one sentence for the user."""


def stage_addon(folder, template=None):
    """Puts the add-on into `<folder>/fullbody_mocap/`, ready for `import`, and returns that path.

    template: a character template (.npz) to include as the default character, or None. Imports nothing of the add-on, so it
    runs where there is no bpy. Raises `AddonPackageError` where something lies there already or is missing.
    """
    staged = Path(folder) / PACKAGE_NAME
    if staged.exists():
        raise AddonPackageError(f"{staged} exists already: choose an empty folder.")
    if template is not None and not Path(template).is_file():
        raise AddonPackageError(f"There is no character template at {template}: check the path.")
    try:
        for source, target in ((_addon_folder(), staged), (Path(contract.__file__).parent, staged / "contract")):
            for path in _package_files(source):
                _copy(path, target / path.relative_to(source))
        if template is not None:
            _copy(template, staged / TEMPLATE_PATH)
    except OSError as error:
        raise AddonPackageError(f"Cannot put the add-on into {folder}: {error.strerror}.") from error
    return staged


def zip_addon(output, template=None):
    """Writes the extension's zip to `output`, whole or not at all, and returns its path.

    The same sources give the same bytes: files are sorted, dated 1980, and stored, since compressors differ between systems.
    Raises `AddonPackageError`.
    """
    output = Path(output)
    if output.is_dir() or not output.parent.is_dir():
        raise AddonPackageError(f"Cannot write {output}: choose a file name in a folder that exists.")
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    try:
        with tempfile.TemporaryDirectory() as folder:
            staged = stage_addon(folder, template)
            shutil.rmtree(staged / _NOT_IN_ZIP)
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                for path in _package_files(staged):
                    # Blender wants the manifest at the root of the zip.
                    entry = zipfile.ZipInfo(path.relative_to(staged).as_posix(), _EARLIEST_ZIP_DATE)
                    entry.create_system = 3  # Unix, wherever this runs
                    entry.external_attr = 0o100644 << 16
                    archive.writestr(entry, path.read_bytes())
        os.replace(temporary, output)
    except OSError as error:
        raise AddonPackageError(f"Cannot write {output}: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return output


def _addon_folder():
    # Finding does not import, which would need bpy.
    spec = importlib.util.find_spec("blender_addon")
    for place in spec.submodule_search_locations if spec else ():
        if (Path(place) / "blender_manifest.toml").is_file():
            return Path(place)
    raise AddonPackageError("The package blender_addon is not installed beside fullbody_core: install fullbody-mocap again.")


def _package_files(folder):
    """Files to ship, sorted by their path inside `folder`; no caches, nothing hidden, nothing half-written."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    wanted = [
        path
        for path in paths
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
        and path.suffix not in (".pyc", ".part", ".zip")
    ]
    return sorted(wanted, key=lambda path: path.relative_to(folder).as_posix())


def _copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
