from dataclasses import replace

import numpy as np
import pytest

from fullbody_core.body.lbs import to_character_template
from fullbody_core.contract.full_body import full_body_template
from fullbody_core.contract.skeleton import JOINT_INDEX
from fullbody_core.evaluate.bridge import (
    Seam,
    creases,
    crossing_faces,
    edge_faults,
    find_seam,
    format_bridge_report,
    loop_gaps,
    measure_motion,
    measure_seam,
    sample_parameters,
    seam_line,
    smallest_angle,
)
from fullbody_core.full_body.bridges import find_recipe

AROUND, STEP = 24, 0.004


@pytest.fixture
def seam():
    """A flat disc of rings of quads: the face inside, a strip between the third and fourth ring, the body outside."""
    angle = 2 * np.pi * np.arange(AROUND) / AROUND
    radii = 0.02 + STEP * np.arange(7)
    vertices = np.stack([np.outer(radii, np.cos(angle)), np.outer(radii, np.sin(angle)), np.zeros((7, AROUND))], -1).reshape(
        -1, 3
    )
    ring, place = np.meshgrid(np.arange(6), np.arange(AROUND), indexing="ij")
    following = (place + 1) % AROUND
    faces = np.stack([ring, ring + 1, ring + 1, ring], -1) * AROUND + np.stack([place, place, following, following], -1)
    faces, ring = faces.reshape(-1, 4), ring.ravel()
    loops = (4 * AROUND + np.arange(AROUND), 3 * AROUND + np.arange(AROUND))
    return Seam(vertices, faces, loops, ring == 3, ring < 3)


def moved(seam, vertex, by):
    vertices = seam.vertices.copy()
    vertices[vertex] += by
    return replace(seam, vertices=vertices)


def without(seam, face):
    kept = np.arange(len(seam.faces)) != face
    return replace(seam, faces=seam.faces[kept], strip=seam.strip[kept], of_model=seam.of_model[kept])


def test_a_sound_seam_has_no_faults(seam):
    assert edge_faults(seam) == (2 * AROUND, 0, 0, 0)
    assert len(crossing_faces(seam)) == 0
    assert creases(seam.vertices, seam.faces, seam.strip).max() < 1e-4
    assert 20 < smallest_angle(seam) < 45
    np.testing.assert_allclose(loop_gaps(seam), STEP, rtol=0.05)


def test_a_missing_face_leaves_open_edges(seam):
    used, non_manifold, open_edges, _ = edge_faults(without(seam, np.flatnonzero(seam.strip)[5]))
    assert used == 2 * AROUND - 2 and open_edges == 4 and non_manifold == 0


def test_a_doubled_face_is_not_manifold(seam):
    number = np.flatnonzero(seam.strip)[5]
    doubled = replace(
        seam,
        faces=np.concatenate([seam.faces, seam.faces[[number]]]),
        strip=np.append(seam.strip, True),
        of_model=np.append(seam.of_model, False),
    )
    used, non_manifold, open_edges, inconsistent = edge_faults(doubled)
    assert (used, non_manifold, open_edges, inconsistent) == (2 * AROUND - 2, 4, 0, 4)


def test_a_face_wound_the_other_way_is_inconsistent(seam):
    faces = seam.faces.copy()
    number = np.flatnonzero(seam.strip)[5]
    faces[number] = faces[number, ::-1]
    assert edge_faults(replace(seam, faces=faces)) == (2 * AROUND, 0, 0, 4)


def test_a_fold_is_a_crease(seam):
    folded = moved(seam, seam.loops[1][3], [0, 0, STEP])
    assert creases(folded.vertices, folded.faces, folded.strip).max() > 40
    assert (
        creases(folded.vertices, folded.faces, folded.faces[:, 0] < AROUND).max() < 1e-4
    )  # the innermost ring is still flat


def test_a_sliver_has_a_small_angle(seam):
    first, second = seam.vertices[seam.loops[1][[3, 4]]]
    assert smallest_angle(moved(seam, seam.loops[1][3], 0.999 * (second - first))) < 1


def test_a_vertex_pushed_through_the_surface_crosses_it(seam):
    across = seam.vertices[seam.loops[1][9]] - seam.vertices[seam.loops[0][0]]
    through = moved(moved(seam, seam.loops[0][0], across + [0, 0, 0.002]), np.arange(5 * AROUND, 7 * AROUND), [0, 0, -0.01])
    through = moved(through, seam.loops[0][1], [0, 0, -0.01])
    assert len(crossing_faces(through)) > 0


def test_what_the_face_model_does_by_itself_does_not_count(seam):
    first, second = 2 * AROUND, 2 * AROUND + 8  # of the face's third ring, which only its own faces have
    inner = moved(seam, first, seam.vertices[second] * 0.9 - seam.vertices[first] + [0, 0, 0.002])
    inner = moved(inner, np.arange(first + 1, first + 3), [0, 0, -0.004])
    assert len(crossing_faces(replace(inner, of_model=np.zeros(len(seam.faces), bool)))) > 0
    assert len(crossing_faces(inner)) == 0


def test_a_wide_gap_is_measured(seam):
    assert abs(loop_gaps(moved(seam, seam.loops[1], [0, 0, 0.01])).max() - np.hypot(0.01, STEP)) < 2e-4


# The open pair.


@pytest.fixture(scope="module")
def pair(body, face):
    base = to_character_template(body)
    recipe = find_recipe(base, face)
    template = full_body_template(base, face, recipe)
    return base, recipe, template, find_seam(base, face, recipe, template)


def test_the_open_pair_is_sound_and_rigid(pair, face):
    base, recipe, template, seam = pair
    figures, motion = measure_seam(base, face, recipe, seam), measure_motion(template, seam, base, count=5)
    assert figures.is_sound and figures.kept == figures.model == len(face.mean)
    assert figures.crease[1] < figures.own_crease[1]
    assert motion.shared and motion.rigidity < 1e-5 and motion.flipped <= motion.flipped_before + 5
    assert seam_line(figures).startswith("closed: 160 of 160")
    report = format_bridge_report("pair", figures, motion, (1e-6, 0.5))
    assert "32815 / 32815" in report and "1.0e-06" in report


def test_a_vertex_that_leaves_the_head_is_not_rigid(pair):
    base, _, template, seam = pair
    weights = template.weights.copy()
    weights[template.face_vertices] = 0
    weights[template.face_vertices, JOINT_INDEX["head"]] = 0.9
    weights[template.face_vertices, JOINT_INDEX["neck"]] = 0.1
    assert measure_motion(replace(template, weights=weights), seam, base, count=2).rigidity > 1e-3


def test_a_face_turned_over_in_motion_is_found(pair):
    base, _, template, seam = pair
    shapes = template.face_shapedirs.copy()
    shapes[:, 0] = 0
    calm = measure_motion(replace(template, face_shapedirs=shapes * 0), seam, base, count=2)
    corner = seam.loops[0][10]
    shapes[0, np.flatnonzero(template.face_vertices == corner)[0]] = [0, 0, 0.05]
    wild = measure_motion(
        replace(template, face_shapedirs=shapes * (np.arange(len(shapes)) == 0)[:, None, None]), seam, base, count=2
    )
    assert wild.flipped + wild.flipped_of_face > calm.flipped + calm.flipped_of_face


def test_random_poses_stay_within_their_limits(pair):
    template, rng = pair[2], np.random.default_rng(0)
    for _ in range(20):
        _, _, expression, rotations = sample_parameters(template, rng)
        assert (expression >= template.expression_limits[:, 0]).all() and (
            expression <= template.expression_limits[:, 1]
        ).all()
        bent = rotations[JOINT_INDEX["neck"]] @ rotations[JOINT_INDEX["head"]]
        assert np.degrees(np.arccos((np.trace(bent) - 1) / 2)) < 40.001
