"""VRM's own few expressions, as they follow from ARKit's 52: what an avatar shows that was not made for "perfect sync"."""

import numpy as np

PRESETS = ("A", "I", "U", "E", "O", "Blink", "Blink_L", "Blink_R", "Joy", "Angry", "Sorrow", "Fun")
"""VRM's own expressions that follow from ARKit's, by their names in VRM 0.x."""


def both(name):
    """ARKit's names of an expression's two sides."""
    return f"{name}Left", f"{name}Right"


PRESET_SOURCES = {
    "A": ("jawOpen",),
    "I": both("mouthStretch"),
    "U": ("mouthPucker",),
    "E": both("mouthLowerDown"),
    "O": ("mouthFunnel",),
    "Blink": both("eyeBlink"),
    "Blink_L": ("eyeBlinkLeft",),
    "Blink_R": ("eyeBlinkRight",),
    "Joy": (*both("mouthSmile"), *both("eyeSquint")),
    "Angry": both("browDown"),
    "Sorrow": (*both("mouthFrown"), "browInnerUp"),
    "Fun": both("mouthSmile"),
}
"""The expressions of ARKit's that each preset shows."""


def has_presets(expression_names):
    """Whether presets follow from expressions of these names: a face with expressions of another kind has no relation to them."""
    return "eyeBlinkLeft" in expression_names


def preset_values(expression_names, expression):
    """VRM's `PRESETS` [..., 12] from ARKit's expressions [..., E], 0..1; ones that the face lacks count as 0.

    What two of them would show is shared out, so that an avatar that adds them up shows it once: both eyes' part of a blink
    is Blink and the rest is one side's; a smile is Joy as far as the eyes smile, and else Fun. The vowels are at most 1 together.
    """
    columns = {name: column for column, name in enumerate(expression_names)}
    expression = np.clip(np.asarray(expression, float), 0, 1)
    nothing = np.zeros(expression.shape[:-1])

    def mean(*names):
        return sum((expression[..., columns[name]] if name in columns else nothing) for name in names) / len(names)

    vowels = np.stack([mean(*PRESET_SOURCES[vowel]) for vowel in "AIUEO"], -1)
    left, right = mean("eyeBlinkLeft"), mean("eyeBlinkRight")
    blink, smile = np.minimum(left, right), mean(*both("mouthSmile"))
    joy = np.minimum(smile, mean(*both("eyeSquint")))
    sorrow = np.minimum(mean(*both("mouthFrown")), mean("browInnerUp"))
    others = [blink, left - blink, right - blink, joy, mean(*both("browDown")), sorrow, smile - joy]
    return np.concatenate([vowels / np.maximum(1, vowels.sum(-1, keepdims=True)), np.stack(others, -1)], -1)
