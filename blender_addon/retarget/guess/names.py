# SPDX-License-Identifier: GPL-3.0-or-later
"""What bones are for by the words in their names, in the manners of many programs and some languages. Numpy only, no bpy."""

import re
import unicodedata

from ...contract.skeleton import FINGERS, SIDES
from ..roles import LIMBS

_SIDE_WORDS = {
    "left": "l left lf lt lft links gauche izquierda izq esquerda sinistra sx 左".split(),
    "right": "r right rt rgt rechts droite derecha der direita destra dx 右".split(),
}
_SIDE_OF = {word: side for side, words in _SIDE_WORDS.items() for word in words}

_WORDS = {
    "pelvis": "pelvis hips hip hipcenter hipscenter bacino cadera becken 腰 下半身",
    "spine": "spine lowerback abdomen abdomenlower abdomenupper chest upperchest chestlower chestupper lowerchest spinelower "
    "spineupper spinemid spinemiddle lowerspine upperspine torso waist back ribcage ribs thorax belly stomach "
    "brust bauch torse buste torace petto pecho 上半身",
    "neck": "neck necklower neckupper necktwist lowerneck upperneck 首",
    "head": "head skull 頭",
    "collar": "collar clavicle collarbone clav scapula shoulderblade 肩",
    "shoulder": "upperarm uparm armupper shldr shldrbend upperarmbend shoulderjoint humerus bicep 腕",
    "elbow": "forearm lowerarm lowarm loarm armlower elbow forearmbend farm ひじ 肘",
    "wrist": "hand wrist 手首",
    "hip": "thigh upperleg upleg legupper femur thighbend uleg 足 太もも",
    "knee": "shin calf lowerleg lowleg loleg leglower knee tibia lleg crus ひざ 膝",
    "ankle": "foot ankle feet 足首",
    "foot": "toe toes ball toebase forefoot toe0 toeball つま先",
}
_ROLE_OF = {word: role for role, words in _WORDS.items() for word in words.split()}

_FINGER_WORDS = {
    "thumb": "thumb thumbfinger fingerthumb 親指",
    "index": "index indexfinger fingerindex pointer 人指",
    "middle": "middle mid middlefinger midfinger fingermiddle fingermid 中指",
    "ring": "ring ringfinger fingerring 薬指",
    "pinky": "pinky pinkie little pinkyfinger littlefinger fingerpinky 小指",
}
_FINGER_OF = {word: finger for finger, words in _FINGER_WORDS.items() for word in words.split()}
_SEGMENTS = {"metacarpal": 0, "proximal": 1, "intermediate": 2, "distal": 3}

_KIND_WORDS = {
    # What is said of a bone beside its part: the better to turn, the lower.
    0: "fk",
    1: "bip c ctrl control con cc base jnt joint jt bone bn b skel skeleton anim main bind x valvebiped biped",
    2: "def d org mch",
}
_KIND_OF = {word: kind for kind, words in _KIND_WORDS.items() for word in words.split()}

_AMBIGUOUS = {"arm": ("shoulder", "elbow"), "hip": ("hip",), "leg": ("hip", "knee"), "shoulder": ("shoulder", "collar")}
"""Words of one side that mean the first role, or the second where the first has a name of its own, settled in this order."""


def names_by_role(names, depth):
    """{role: [places of its bones]} by names [B] alone; depth [B]: bones above each. Incomplete where names say nothing."""
    read = [_read(name) for name in names]
    best = {}
    for place, word in enumerate(read):
        if word is not None:
            best.setdefault(word[:2], []).append((word[2], depth[place], word[3], place))
    for side in SIDES:
        _settle(best, side)
    roles = {}
    for (side, part), found in best.items():
        role = part if side is None else f"{side}_{part}"
        kind = min(each[0] for each in found)
        found = sorted(each[1:] for each in found if each[0] == kind)
        roles[role] = [place for _, _, place in found] if part in ("spine", "neck", "foot") else [found[0][2]]
    return roles


def side_of_name(name):
    """The side that a bone's name says, or None."""
    return next((_SIDE_OF[word] for word in _words(name) if word in _SIDE_OF), None)


def _settle(best, side):
    """Gives the parts with words that mean two things to what has no bone yet."""
    for word, parts in _AMBIGUOUS.items():
        found = best.pop((side, f"?{word}"), None)
        if found:
            part = next((part for part in parts if (side, part) not in best), None)
            if part is not None:
                best[side, part] = found


def _words(name):
    """The words of a name in small letters, numbers apart."""
    name = unicodedata.normalize("NFKC", re.split(r"[:|]", name)[-1])
    name = re.sub(r"^([lrLR])(?=[A-Z][a-z])", r"\1 ", name)
    words = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[左右]|[^\W\d_A-Za-z左右]+", name)
    return [word.casefold() for word in words]


def _read(name):
    """(side, part, kind, number) of a bone's name, or None where it names no part or a helper of one."""
    words = _words(name)
    sides = [_SIDE_OF[word] for word in words if word in _SIDE_OF]
    numbers = [int(word) for word in words if word.isdigit()]
    said = [word for word in words if word not in _SIDE_OF and not word.isdigit()]
    kinds = [_KIND_OF[word] for word in said if word in _KIND_OF]
    said = [word for word in said if word not in _KIND_OF]
    side, kind, number = sides[0] if sides else None, min(kinds, default=1), numbers[-1] if numbers else 0
    segment = next((_SEGMENTS[word] for word in said if word in _SEGMENTS), None)
    joined = "".join(word for word in said if word not in _SEGMENTS)
    if side is None and joined and joined not in _ROLE_OF:
        # A letter for the side before or after the rest, as in "lfoot".
        for letter, rest in ((joined[0], joined[1:]), (joined[-1], joined[:-1])):
            if letter in "lr" and (rest in _ROLE_OF or rest in _AMBIGUOUS or rest in _FINGER_OF):
                side, joined = _SIDE_OF[letter], rest
                break
    if side is not None:
        return _read_of_side(side, joined, kind, number, segment, words)
    part = _ROLE_OF.get(joined)
    return (None, part, kind, number) if part in ("pelvis", "spine", "neck", "head") else None


def _read_of_side(side, joined, kind, number, segment, words):
    finger = _FINGER_OF.get(joined) or _FINGER_OF.get(joined.removeprefix("hand"))
    if finger in FINGERS:
        segment = number if segment is None else segment
        if "metacarpal" in words or finger == "thumb" and "intermediate" in words:
            return None
        return (side, f"{finger}{segment}", kind, 0) if segment in (1, 2, 3) else None
    if joined in _AMBIGUOUS:
        return side, f"?{joined}", kind, number
    part = _ROLE_OF.get(joined)
    return (side, part, kind, number) if part in LIMBS else None
