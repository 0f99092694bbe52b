"""Who is who in a video: people are followed from frame to frame, without changing places (Zhou et al. 2021, supplementary Sec. 1).

A detector of people says where somebody is at first; each later region comes from the frame before's keypoints, moved on as the
person moves. Tracking by detection alone loses people who pass each other. Here everybody near is followed by BlazePose of their
own, so that a body which two of them claim goes to the one whose motion and colours fit, and the other waits until seen again.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..detect.keypoints import Keypoints
from ..detect.mediapipe import MODELS, BodyFinder, PersonParts, Region, hash_models
from .appearance import likeness, look_of
from .person_choice import PersonChoice
from .person_detection import SMALLEST_PERSON, PersonDetector, box_overlaps
from .track import (
    ALIKE,
    FALL,
    FORGET,
    UNLIKE,
    Find,
    doubt,
    fits,
    is_somebody,
    new_track,
    reach,
    region_box,
    regions_to_try,
    same_body,
    whole_box,
)

LOOK_AROUND, LOOK_CLOSELY, LOOK_EVERYWHERE, SEARCH = 12, 4, 12, 2
"""Frames from one look around the chosen person to the next, the same while others are near, frames in which the whole picture is
looked at once for everybody, and frames from one search for somebody who is lost to the next."""

AROUND, NEAR, AS_LARGE = 6.0, 1.0, 0.4
"""Side of the square around the chosen person where others are looked for, in radii. Who is nearer than this in sums of both radii
and at least so large for the chosen person is followed too: they could be taken for each other."""

SURELY, CLEAR, HIDDEN = 0.74, 8, 30
"""Somebody's view is learned when they were at least so like themselves, and nobody else in the way, for this many frames; who was
not seen for no more than the last number of frames may be in the way."""

CROWDED = 1.5
"""Others are about somebody who are nearer than this in sums of both radii."""

APART = 0.05
"""People are apart whose boxes share no more than this part of their union."""

OVERLAID, TOUCHING = 0.5, 0.3
"""A new body whose box shares with another's the first part of the smaller one, or the second and looks like them, is not believed:
whoever stands in front of others is found once they are apart."""

BETTER = 0.12
"""By how much more alike another body has to be for somebody to have been on the wrong one."""

MOST_OTHERS = 12
"""Of so many others the looks are kept."""

YOUNG = 5
"""Who is lost before having been seen in this many frames may never have been there."""

LOOKS, SETTLED = 4, 0.08
"""A new body is looked at again where it was found, at most so often, until its points move by no more than this, in radii: things
that are no person wander about."""

LASTING = 1.0
"""s that somebody has to be seen for to count among everybody."""

SMALLEST_RADIUS = 8
"""px of a circle around a body below which nothing can be seen of it."""


class PeopleTracker:
    """Keypoints of the chosen person, or of everybody, frame after frame.

    choice: a `PersonChoice`. One person is identity 1 throughout; several are numbered from 1 in the order they were found in.
    boxes [N, 4] px: around the whole bodies of all people who are followed in the latest picture, the chosen one or not.
    """

    def __init__(self, choice=PersonChoice(), parts=True):
        """parts: whether hands and faces are looked for."""
        self.choice, self.parts = choice, parts
        self.name, self.definition = "mediapipe", BodyFinder.definition
        self.models = hash_models(MODELS)
        self.boxes = np.zeros((0, 4))
        self._tracks, self._others, self._fresh, self._next, self._frame, self._waited = [], [], True, 1, -1, 0
        self._bodies, self._detector = BodyFinder(), PersonDetector()
        self._people_parts, self._idle_parts = {}, []
        self._worker, self._pending = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parts"), None

    def nobody(self):
        """The `Keypoints` of a frame in which somebody is not seen."""
        return Keypoints.nobody(self.definition, BodyFinder.face_count)

    def look(self, image):
        """{identity: `Keypoints`} of those who are seen in an RGB uint8 image [H, W, 3]. Frames are to be given in order."""
        people = self._find_bodies(image)
        self._begin_parts(image, people)
        self._finish_parts()
        return people

    def follow(self, pictures):
        """Yields ({identity: `Keypoints`}, boxes [N, 4] px of everybody known of) for pictures (RGB uint8 [H, W, 3], begins a
        shot), in order. It asks for the next picture before it answers: its bodies are found beside this one's hands and faces.
        """
        waiting = None
        for image, begins_shot in pictures:
            if begins_shot:
                self.start_anew()
            people = self._find_bodies(image)
            self._finish_parts()
            if waiting is not None:
                yield waiting
            waiting = people, self.boxes
            self._begin_parts(image, people)
        self._finish_parts()
        if waiting is not None:
            yield waiting

    def start_anew(self):
        """The next picture begins another shot: people are anywhere, and found again by their looks."""
        self._fresh = True
        for track in self._tracks:
            track.find, track.missed, track.velocity = None, FORGET + 1, np.zeros(2)
        for other in self._others:
            other.missed = FORGET + 1

    def close(self):
        """Frees the models."""
        self._finish_parts()
        self._worker.shutdown()
        for parts in [*self._people_parts.values(), *self._idle_parts]:
            parts.close()
        self._bodies.close()
        self._detector.close()

    def _begin_parts(self, image, people):
        if self.parts:
            self._pending = self._worker.submit(self._find_parts, image, people)

    def _finish_parts(self):
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _find_parts(self, image, people):
        for identity in [*self._people_parts]:
            if identity not in people:
                parts = self._people_parts.pop(identity)
                parts.forget()
                self._idle_parts.append(parts)
        for identity, keypoints in people.items():
            if identity not in self._people_parts:
                self._people_parts[identity] = self._idle_parts.pop() if self._idle_parts else PersonParts()
            self._people_parts[identity].find(image, keypoints)

    def _find_bodies(self, image):
        """{identity: `Keypoints` with the body alone}."""
        self._frame += 1
        self._follow(image)
        for other in self._others:
            other.velocity, other.missed = np.zeros(2), other.missed + 1
        people = self._detect(image)
        if people is not None:
            self._sort_out(image, self._new_bodies(image, people))
        self._learn()
        self._drop()
        seen = self._seen()
        self.boxes = np.array([whole_box(track.find) for track in seen]).reshape(-1, 4)
        return {track.identity: track.find.keypoints for track in seen if track.identity}

    def _seen(self):
        return [track for track in self._tracks if track.find is not None]

    def _chosen(self):
        return next((track for track in self._tracks if track.identity), None)

    def _find_body(self, image, region):
        """The `Find` in a region, or None."""
        if not np.isfinite([*region.centre, region.radius]).all() or region.radius < SMALLEST_RADIUS:
            return None
        keypoints, following = self._bodies.look(image, region)
        if keypoints is None or following.radius < SMALLEST_RADIUS:
            return None
        return Find(keypoints, following, look_of(image, keypoints.body2d, keypoints.body_confidence))

    def _follow(self, image):
        """Everybody from the frame before: who is found, and whose body it is where two find the same one."""
        claims = []
        for track in self._tracks:
            for region in regions_to_try(track):
                find = self._find_body(image, region)
                if find is not None and fits(track, find):
                    claims.append((track, find))
                    break
        # The best founded claim first; whoever finds a body that is taken waits.
        claims.sort(key=lambda claim: doubt(*claim))
        taken = {}
        for track, find in claims:
            if not any(same_body(find, other) for other in taken.values()):
                taken[id(track)] = find
        for track in self._tracks:
            find = taken.get(id(track))
            track.miss() if find is None else track.accept(find)

    def _learn(self):
        """Adds to what people look like while nobody else is in the way, not even somebody who may be hidden there."""
        near = [track for track in self._tracks if track.missed <= HIDDEN]
        overlaps = box_overlaps(*[[region_box(track.region) for track in near]] * 2)
        for track, overlap in zip(near, overlaps):
            clear = track.find is not None and (overlap > APART).sum() <= 1
            clear = clear and track.likeness(track.find) >= max(SURELY, track.usual - FALL / 2)
            track.clear_frames = track.clear_frames + 1 if clear else 0
            if clear and track.clear_frames % CLEAR == 0:
                track.gallery.learn(track.find.look)

    def _detect(self, image):
        """`People` in the picture if it is time to look for them, or None."""
        chosen = self._chosen()
        if self._fresh or (chosen is None and self.choice.kind != "all"):
            self._waited += 1
            return self._detector.detect(image, thorough=self._waited % LOOK_EVERYWHERE == 1)
        self._waited = 0
        if self.choice.kind == "all":
            return self._detector.detect_in_turn(image, self._frame, LOOK_EVERYWHERE)
        if chosen.missed and chosen.missed % (2 * LOOK_EVERYWHERE) == 2 * SEARCH:
            return self._detector.detect(image)
        every = SEARCH if chosen.missed else LOOK_CLOSELY if len(self._tracks) > 1 else LOOK_AROUND
        if chosen.missed == 1 or (chosen.missed or self._frame) % every == 0:
            return self._detector.detect_around(image, chosen.region.centre, AROUND * chosen.region.radius)
        return None

    def _new_bodies(self, image, people):
        """`Find`s of detected people who are not followed yet."""
        found = [track.find for track in self._seen()]
        known, smallest = len(found), SMALLEST_PERSON * image.shape[0] / 2
        for centre, radius, lean in zip(people.centres, people.radii, people.leans):
            if radius < smallest or any(np.linalg.norm(centre - f.region.centre) < 0.2 * f.region.radius for f in found):
                continue
            find = self._settled_body(image, Region(centre, radius, lean))
            if find is not None and find.region.radius >= smallest and not self._is_double(find, found):
                found.append(find)
        return found[known:]

    def _is_double(self, find, found):
        """Whether a new body is somebody's who is already found, looked at in another way, or between two of them."""
        boxes = [other.keypoints.person_box for other in found]
        covered = box_overlaps(find.keypoints.person_box, boxes, of_smaller=True)[0]
        circled = box_overlaps(region_box(find.region), [region_box(other.region) for other in found])[0]
        for other, share, same_circle in zip(found, covered, circled):
            alike = likeness(find.look, other.look) if share > TOUCHING else None
            if max(share, same_circle) > OVERLAID or same_body(find, other) or (alike is not None and alike > UNLIKE):
                return True
        return False

    def _settled_body(self, image, region):
        """The body that is found about a region again and again, or None."""
        find, start = None, region
        for _ in range(LOOKS):
            before, find = find, self._find_body(image, region)
            if find is None or not is_somebody(find):
                return None
            region = find.region
            if not 0.5 < region.radius / start.radius < 2 or np.linalg.norm(region.centre - start.centre) > start.radius:
                return None
            if before is not None:
                moved = np.linalg.norm(find.keypoints.body2d - before.keypoints.body2d, axis=-1).mean()
                if moved < SETTLED * region.radius:
                    return find
        return None

    def _sort_out(self, image, finds):
        """Gives new bodies to those who are lost or on a wrong one; who is left is new."""
        if not finds:
            return
        self._correct(finds)
        self._find_again(finds)
        if self.choice.kind == "all":
            self._fresh = False
            for find in finds:
                self._add(find, self._next)
                self._next += 1
            return
        chosen = self._chosen()
        if finds and (chosen is None or (self._fresh and chosen.find is None)):
            self._choose(image, finds)
        self._fresh = self._fresh and self._chosen().find is None
        self._remember(finds)
        for find in finds:
            if self._is_near(find.region):
                self._add(find, 0)

    def _correct(self, finds):
        """Somebody who is followed on a body that looks less like them than a new one near by is on the wrong one."""
        for track in self._seen():
            for index, find in enumerate(finds):
                better = track.likeness(find) > max(ALIKE - 0.1, track.likeness(track.find) + BETTER)
                if better and track.innovation(find.region) < 1:
                    finds[index] = track.find
                    track.accept(find)
                    break

    def _find_again(self, finds):
        """Gives bodies to people who are lost and look like them, and takes those out of `finds`."""
        crowds = [self._crowd(find, finds) for find in finds]
        pairs = []
        for track in self._tracks:
            for find, crowd in zip(finds, crowds) if track.missed else ():
                alike, way = track.likeness(find), track.innovation(find.region) / reach(track)
                # Alone somebody may have changed their looks with the light. In a crowd, the farther the surer it has to be.
                asked = UNLIKE + (ALIKE - UNLIKE) * way * crowd / (1 + crowd) if way < 1 else ALIKE
                if alike >= asked and alike > self._likeness_to_others(track, find):
                    pairs.append((alike - 0.2 * min(way, 1), track, find))
        for _, track, find in sorted(pairs, key=lambda pair: -pair[0]):
            if track.missed and any(find is other for other in finds):
                track.accept(find)
                finds[:] = [other for other in finds if other is not find]

    def _crowd(self, find, finds):
        """How many others are about a new body who could be taken for it."""
        others = [other.region for other in finds if other is not find] + [track.region for track in self._seen()]
        middle, radius = find.region.centre, find.region.radius
        return sum(np.linalg.norm(other.centre - middle) < CROWDED * (other.radius + radius) for other in others)

    def _remember(self, finds):
        """Keeps where others are and what they look like who are not the chosen person: they are not to be taken for them later."""
        chosen = self._chosen()
        for find in finds:
            other = max(self._others, key=lambda other: other.likeness(find), default=None)
            alike = 0.0 if other is None else other.likeness(find)
            there = other is not None and other.innovation(find.region) < reach(other)
            if alike >= (max(SURELY, chosen.likeness(find)) if there else ALIKE):
                other.accept(find)
            elif chosen.find is not None and self._apart(chosen.find, find):
                self._others = [*self._others[1 - MOST_OTHERS :], new_track(find, 0)]

    @staticmethod
    def _apart(find, other):
        return box_overlaps(find.keypoints.person_box, other.keypoints.person_box)[0, 0] < APART

    def _likeness_to_others(self, track, find):
        """How much a body is like somebody else who may be there."""
        others = [other for other in self._tracks if other is not track and other.seen_frames >= YOUNG]
        others += [other for other in self._others if other.missed > FORGET or other.innovation(find.region) < reach(other)]
        return max((other.gallery.likeness(find.look) or 0.0 for other in others), default=0.0)

    def _choose(self, image, finds):
        """Takes the chosen person out of `finds`. After a cut it is somebody even if nobody looks like them."""
        index = self.choice.pick([find.keypoints.person_box for find in finds], image.shape[1::-1])
        chosen = self._chosen()
        if chosen is None:
            self._add(finds[index], 1)
        else:
            chosen.accept(finds[index])
        del finds[index]

    def _is_near(self, region):
        chosen = self._chosen().region
        way = np.linalg.norm(region.centre - chosen.centre)
        return way < NEAR * (chosen.radius + region.radius) and region.radius > AS_LARGE * chosen.radius

    def _add(self, find, identity):
        self._tracks.append(new_track(find, identity))

    def _drop(self):
        """Who was hardly seen is forgotten, and others than the chosen person once they are away."""
        self._tracks = [track for track in self._tracks if track.missed <= 1 or track.seen_frames >= YOUNG]
        if self.choice.kind == "all":
            return
        chosen = self._chosen()
        self._tracks = [
            track
            for track in self._tracks
            if track is chosen or (chosen is not None and track.missed <= FORGET // 2 and self._is_near(track.region))
        ]


class ChosenPersonFinder:
    """Where the chosen person is in a picture: pictures need not follow each other. In later ones they are found by their looks."""

    def __init__(self, choice):
        """choice: a `PersonChoice`; 'all' is the largest."""
        self._tracker = PeopleTracker(PersonChoice() if choice.kind == "all" else choice, parts=False)
        self.models = hash_models(MODELS[:2])

    def find(self, image):
        """Box [4] px around the person in an RGB uint8 image [H, W, 3], or None."""
        self._tracker.start_anew()
        found = self._tracker.look(image)
        return found[1].person_box if found else None

    def close(self):
        """Frees the models."""
        self._tracker.close()


def lasting(people, timestamps):
    """Of {identity: `Keypoints` over T frames} those who are seen for `LASTING` s or more, as identities from 1, in order.

    timestamps [T] s. If nobody is, whoever is seen longest.
    """
    frame = float(np.median(np.diff(timestamps))) if len(timestamps) > 1 else LASTING
    shown = {identity: item.body_confidence.any(-1).sum() * frame for identity, item in people.items()}
    kept = [identity for identity in people if shown[identity] >= LASTING] or sorted(shown, key=shown.get)[-1:]
    return {number: people[identity] for number, identity in enumerate(kept, 1)}
