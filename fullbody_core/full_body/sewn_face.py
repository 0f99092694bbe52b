"""A face made from a body itself is sewn into it: its outer edge lies on the body's own edges, and no gap is to be bridged."""

import numpy as np

from ..contract.bridge import BridgeError, BridgeRecipe, fingerprint


def sewn_recipe(body, face):
    """The `BridgeRecipe` of a `CharacterTemplate` without a face and a `MorphableModel` cut from it, such as the open face.

    Of the face's meta, `body_boundary` says for each vertex of its boundary the body vertex that it is, or the two that it lies in
    the middle of. Raises `BridgeError` for a face that was not cut from this body.
    """
    ends = face.meta.get("body_boundary")
    if not ends or len(ends) != len(face.boundary) or np.max([np.max(pair) for pair in ends]) >= len(body.vertices):
        raise BridgeError("This face was not cut from this body, so it cannot be sewn in: bridge the two.")
    loop = [pair[0] for pair in ends if len(pair) == 1]
    place = {vertex: number for number, vertex in enumerate(loop)}
    if any(vertex not in place for pair in ends for vertex in pair):
        raise BridgeError("This face was not cut from this body, so it cannot be sewn in: bridge the two.")
    return BridgeRecipe(
        body_name=str(body.meta.get("name") or "unnamed"),
        body_fingerprint=fingerprint(body.faces, len(body.vertices)),
        face_name=str(face.meta.get("name") or "unnamed"),
        face_fingerprint=fingerprint(face.faces, len(face.mean)),
        body_boundary=loop,
        face_boundary=face.boundary,
        sewn=[[place[pair[0]], place[pair[-1]]] for pair in ends],
        meta={"produced_by": "sewn_recipe"},
    )
