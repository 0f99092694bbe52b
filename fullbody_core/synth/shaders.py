"""The programs that draw people, for OpenGL 3.3: a body with its clothes, and what stands behind and before it.

PERSON draws skin, clothes and hair by where a point lies in the rest pose. FINISH turns a drawn view into a picture: it averages
down, blurs, and adds backdrop, things in the way, exposure and grain. Both read one block of numbers per person, `FIELDS`;
`appearance` says what they are. Lengths are metres; colours are linear RGB in PERSON and as in a picture in FINISH.
"""

import math

SHAPES, OCCLUDERS, TAPS = 5, 2, 10

FIELDS = (
    "camera", "frame",
    "lamp", "lamp_colour", "fill", "fill_colour", "up", "sky", "ground", "shadow_x", "shadow_y", "shadow_z",
    "skin", "face", "iris", "hair", "scalp", "beard",
    "top", "top_cut", "top_one", "top_two", "top_pattern",
    "coat", "coat_cut", "coat_one", "coat_two", "coat_pattern",
    "legs", "legs_cut", "legs_one", "legs_two", "legs_pattern",
    "shoes", "gloves", "folds", "skirt", "mane",
    "wall_one", "wall_two", "wall", "floor_one", "floor_two", "floor_line", "picture",
    *(f"shape{number}{part}" for number in range(SHAPES) for part in ("", "_axes", "_colour")),
    *(f"occluder{number}{part}" for number in range(OCCLUDERS) for part in ("", "_axes", "_colour")),
    "blur_0", "blur_1", "blur_2", "exposure", "balance", "grain",
)  # fmt: skip
"""Names of the block's vec4s, in order. Where the four are not a colour or a direction and something of `appearance`:

camera: focal length and centre, px of I; a random number. frame: left, top, right, bottom edge of the whole picture, px of I.
lamp: direction, darkness of its shadow. shadow_x, _y, _z: rows of the transform into what the lamp sees.
skin: colour, unevenness. face: colour of the lips against the skin's, strength of the brows. iris: colour, red of the cheeks.
hair: colour, gloss. scalp: hairline, nape, thickness, wave. beard: colour, strength. mane: end, thickness, -, worn.
top, coat, legs: three that differ, thickness; _cut: sleeve's end, hem, neckline, depth of its opening (legs: end, waist, bare);
_pattern: kind, patterns per metre along x and y, half of a coat's opening. legs: belt, top tucked in, thickness below, above.
shoes, gloves: colour, upper edge or worn. folds: three waves per metre, strength. skirt: worn, hem, top, flare.
wall_one, wall_two: colour, tiles or whether they are bricks. wall: scale, shading from top to bottom, clouds, fineness.
floor_line: px of I, slope, scale of the floor, px of blur of everything behind. picture: number, middle, whether there is one.
shape, occluder: middle px, kind, size px; _axes: 2 x 2 matrix into -1..1. blur: 2 x 2 matrix, px of the view.
exposure: gain, darkening of the middle, contrast, saturation. grain: of light, of colour, coarseness.
"""


def _normal_taps():
    """TAPS points (x, y) that stand for a normal distribution: rings of equal share, turned by the golden angle."""
    for tap in range(TAPS):
        radius, angle = math.sqrt(-2 * math.log(1 - (tap + 0.5) / TAPS)), 2.39996 * tap
        yield radius * math.cos(angle), radius * math.sin(angle)


_SHARED = (
    """#version 330
layout(std140) uniform Person {
"""
    + "".join(f"    vec4 {name};\n" for name in FIELDS)
    + """};
float hash(vec3 p) {
    p = fract(p * vec3(0.1031, 0.1030, 0.0973) + 0.013);
    p += dot(p, p.yxz + 33.33);
    return fract((p.x + p.y) * p.z);
}
vec4 hash(vec4 n) {
    n = fract(n * 0.1031);
    n *= n + 33.33;
    n *= n + n;
    return fract(n);
}
float noise(vec3 p) {
    vec3 cell = floor(p), part = p - cell;
    part = part * part * (3.0 - 2.0 * part);
    float corner = dot(cell, vec3(1, 57, 113));
    vec4 low = hash(corner + vec4(0, 1, 57, 58)), high = hash(corner + vec4(113, 114, 170, 171));
    vec4 four = mix(low, high, part.z);
    vec2 two = mix(four.xz, four.yw, part.x);
    return mix(two.x, two.y, part.y);
}
"""
)

_GARMENTS = """
uniform vec3 eye, ear, mouth, crown, neck;
uniform float shoulder, crotch, wrist;

// How far inside a garment a rest place lies, m. A cut is (sleeve's end |x|, hem y, neckline y, depth of its opening).
float inside_top(vec3 p, vec4 cut) {
    float across = abs(p.x);
    float round_neck = cut.z - 0.35 * max(0.0, 0.075 - across) * step(0.0, p.z - neck.z);
    float deep = cut.z - cut.w * max(0.0, 1.0 - across / 0.085) * smoothstep(neck.z - 0.02, neck.z + 0.03, p.z);
    float collar = min(round_neck, deep) + 0.35 * max(0.0, across - 0.1);
    return min(min(cut.x - across, p.y - cut.y), collar - p.y);
}
float inside_legs(vec3 p) {
    float on = min(min(p.y - legs_cut.x, legs_cut.y - p.y), shoulder + 0.1 - abs(p.x));
    return legs_cut.z > 0.5 ? -1.0 : on;
}
float inside_shoes(vec3 p) { return min(shoes.w - p.y, shoulder + 0.1 - abs(p.x)); }
float inside_coat(vec3 p) {
    float front = step(neck.z - 0.03, p.z) * step(abs(p.x), shoulder);
    float open = abs(p.x) - coat_pattern.w + 0.3 * max(0.0, neck.y - 0.15 - p.y);
    float on = min(inside_top(p, coat_cut), mix(1.0, open, front * step(0.001, coat_pattern.w)));
    return coat.w > 0.0005 ? on : -1.0;
}
float inside_gloves(vec3 p) { return gloves.w > 0.5 ? abs(p.x) - wrist + 0.03 : -1.0; }
// Over the hairline, behind the ears down to the nape. scalp is (hairline, nape, thickness, wave).
float inside_hair(vec3 p) {
    float share = clamp((eye.z - 0.005 - p.z) / (eye.z - ear.z), 0.0, 1.0);
    float hairline = mix(scalp.x, ear.y + 0.01, share);
    hairline = p.z < ear.z - 0.02 ? scalp.y : hairline;
    hairline += scalp.w * sin(p.x * 90.0 + camera.w) * 0.006;
    float is_ear = step(ear.x - 0.012, abs(p.x)) * step(abs(p.y - ear.y), 0.045) * step(ear.z - 0.02, p.z);
    float on = min(p.y - hairline, p.y - neck.y + 0.06);
    return scalp.z > 0.0005 ? on - is_ear : -1.0;
}
"""

PERSON_VERTEX = (
    _SHARED
    + _GARMENTS
    + """
in vec3 place; in vec3 normal; in vec4 rest; in vec4 trait;
uniform vec4 rect;
out vec3 at; out vec3 towards; out vec4 home; out vec4 marks; out vec4 worn; out vec3 before;
float cover(float inside) { return smoothstep(-0.012, 0.012, inside); }
void main() {
    vec3 p = rest.xyz;
    // Garments end between vertices, where these cross zero. The last one is shoes (or hair on the head), gloves on hands.
    worn = vec4(inside_legs(p), inside_top(p, top_cut), inside_coat(p), max(inside_shoes(p), inside_gloves(p)));
    float layer = 0.0;
    if (trait.x == 0.0 || trait.x == 3.0) {
        float down = clamp((legs_cut.y - p.y) / (legs_cut.y - legs_cut.x + 0.01), 0.0, 1.0);
        layer = max(top.w * cover(worn.y), mix(legs.w, legs.z, down) * cover(worn.x));
        layer = max(layer, max(0.007 * cover(worn.w), coat.w * cover(worn.z)));
        if (trait.x == 0.0 && layer > 0.006) {
            float wave = sin(p.x * folds.x + 2.0 * sin(p.y * folds.y + camera.w)) * sin(p.y * folds.z + p.z * 17.0);
            layer *= 1.0 + 0.35 * folds.w * wave;
        }
        float curl = 1.0 + 0.3 * scalp.w * sin(p.x * 60.0) * sin(p.y * 70.0 + camera.w);
        if (trait.x == 3.0) layer = max(layer, scalp.z * smoothstep(-0.008, 0.008, inside_hair(p)) * curl);
    } else if (trait.x == 1.0) layer = 0.0015 * step(0.0, worn.w);
    else if (trait.x == 7.0) layer = mane.y + 0.008 * sin(p.x * 70.0 + camera.w) * sin(p.y * 11.0);
    else if (trait.x == 9.0) {
        float down = max(0.0, skirt.z - p.y), round_it = atan(p.x, p.z - neck.z);
        layer = top.w * 0.3 + skirt.w * down + 0.25 * skirt.w * down * sin(round_it * floor(4.0 + folds.x * 0.2) + camera.w);
    }
    towards = normalize(normal);
    at = place + layer * towards;
    home = rest; marks = trait;
    // Where to ask whether the lamp is hidden: a little off the surface, which else would throw shadows on itself.
    vec4 off = vec4(at + 0.012 * towards + 0.006 * lamp.xyz, 1.0);
    before = 0.5 + 0.5 * vec3(dot(shadow_x, off), dot(shadow_y, off), dot(shadow_z, off));
    vec2 pixel = camera.x * at.xy + (camera.yz - rect.xy) * at.z;
    gl_Position = vec4(2.0 * pixel / rect.zw - at.z, (at.z * 20.1 - 4.0) / 19.9, at.z);
}
"""
)
"""rect: the part of I that the view shows, left, top, width and height in px. Near and far plane are 0.1 and 20 m."""

SHADOW_VERTEX = (
    _SHARED
    + """
in vec3 place; in vec3 normal;
void main() {
    vec4 p = vec4(place, 1.0);
    gl_Position = vec4(dot(shadow_x, p), dot(shadow_y, p), dot(shadow_z, p), 1.0);
}
"""
)
"""Sees a person from the lamp: rows of the transform into a square from -1 to 1 are shadow_x, shadow_y and shadow_z."""

SHADOW_FRAGMENT = "#version 330\nvoid main() {}\n"

_SHADE = """
uniform sampler2DShadow shadows;
uniform vec4 shadow_tile;
in vec3 at; in vec3 towards; in vec4 home; in vec4 marks; in vec4 worn; in vec3 before;
out vec4 drawn;

// What a point is made of. pattern is (kind, patterns per metre in x and y, -), of kind 0 plain, 1 stripes, 2 checks, 3 dots,
// 4 blobs, 5 speckles. grain: of the unevenness, per metre.
struct Stuff { vec3 one; vec3 two; vec4 pattern; vec3 grain; vec2 uneven; float gloss; float sharp; float wrap; float bump; };

void wear(inout Stuff stuff, bool on, vec3 one, vec3 two, vec4 pattern, float gloss, float thick) {
    stuff.one = on ? one : stuff.one; stuff.two = on ? two : stuff.two;
    stuff.pattern = on ? pattern : stuff.pattern;
    stuff.gloss = on ? gloss : stuff.gloss; stuff.bump = on ? thick : stuff.bump;
}
// What is cloth, whichever.
void weave(inout Stuff stuff, bool cloth) {
    stuff.uneven = cloth ? vec2(0.94, 0.08) : stuff.uneven;
    stuff.wrap = cloth ? 0.1 : stuff.wrap; stuff.bump = cloth ? 0.12 + 9.0 * stuff.bump : 0.0;
}
vec4 shade(Stuff stuff, vec3 p) {
#ifdef BARE
    float rough = noise(p * stuff.grain + camera.w) + 0.5 * noise(p * stuff.grain * 3.3);
    vec3 base = stuff.one * (stuff.uneven.x + stuff.uneven.y * rough), view = normalize(at), n = normalize(towards);
#else
    vec2 grid = stuff.pattern.yz, q = vec2(dot(grid, p.xy), dot(grid, vec2(p.y, -p.x)));
    float kind = stuff.pattern.x, fine = length(grid);
    vec3 cell = kind > 3.5 ? vec3(q, p.z * fine) * (kind > 4.5 ? 8.0 : 1.0) : p * stuff.grain;
    float cloud = noise(cell + camera.w), detail = noise(p * stuff.grain * 3.3);
    vec2 wave = sin(6.2832 * q), square = smoothstep(-0.12, 0.12, wave);
    float share = kind < 0.5 ? 0.0 : kind < 1.5 ? square.y : kind < 2.5 ? 0.5 * (square.x + square.y)
        : kind < 3.5 ? 1.0 - smoothstep(0.25, 0.32, length(fract(q) - 0.5))
        : kind < 4.5 ? smoothstep(0.48, 0.52, cloud) : cloud;
    float rough = kind > 3.5 ? detail : cloud + 0.5 * detail;
    vec3 base = mix(stuff.one, stuff.two, share) * (stuff.uneven.x + stuff.uneven.y * rough);

    vec3 view = normalize(at), n = normalize(towards);
    // Folds: a smooth random tilt of the surface.
    vec3 k = p * folds.z + camera.w;
    float first = sin(k.x + 2.1 * sin(0.7 * k.y)), second = sin(0.8 * k.y + 1.7 * sin(k.x + k.z));
    n = normalize(n + folds.w * stuff.bump * vec3(first, second, first * second));
#endif
    vec3 place = vec3(shadow_tile.xy + clamp(before.xy, 0.004, 0.996) * shadow_tile.zw, before.z);
    float lit = mix(1.0, texture(shadows, place), lamp.w);
#ifdef SHELL
    n *= dot(n, view) > 0.0 ? -1.0 : 1.0;
#endif
    float facing = lit * max((dot(n, lamp.xyz) + stuff.wrap) / (1.0 + stuff.wrap), 0.0);
    float other = max((dot(n, fill.xyz) + stuff.wrap) / (1.0 + stuff.wrap), 0.0);
    float above = 0.5 + 0.5 * dot(n, up.xyz), open = 1.0 - 0.6 * marks.y;
    vec3 light = open * (facing * lamp_colour.rgb + other * fill_colour.rgb + mix(ground.rgb, sky.rgb, above));
    float shine = max(dot(reflect(view, n), lamp.xyz), 0.0);
    shine *= shine; shine *= shine; shine *= shine; shine *= shine;
    vec3 glint = stuff.gloss * mix(shine, shine * shine, stuff.sharp) * lit * lamp_colour.rgb;
    return vec4(sqrt(clamp(base * light + glint, 0.0, 1.0)), 1.0);
}
"""

BODY_FRAGMENT = (
    _SHARED
    + _GARMENTS
    + _SHADE
    + """
void main() {
    vec3 p = home.xyz, base = skin.rgb;
    float palm = step(wrist, abs(p.x)) * smoothstep(0.1, -0.5, home.w), nail = step(0.6, marks.z);
    base = mix(base, mix(base, vec3(0.62, 0.36, 0.28), 0.55), palm * (1.0 - 0.5 * skin.r));
    base *= mix(vec3(1), vec3(1.04, 0.84, 0.8), marks.w * (1.0 - palm));
    base *= 1.0 - 0.4 * palm * smoothstep(0.4, 0.95, marks.w);
    base = mix(base, mix(skin.rgb, vec3(0.8, 0.6, 0.55), 0.45), 0.8 * nail);
    Stuff stuff = Stuff(base, base, vec4(0), vec3(28), vec2(1.0 - 0.75 * skin.w, skin.w), 0.12 + 0.25 * nail, 0.0, 0.25, 0.0);
#ifdef BARE
    wear(stuff, worn.w > 0.0, gloves.rgb, gloves.rgb, vec4(0), 0.08, 0.0);
#else
    bool legs_on = worn.x > 0.0, belt = legs.x > 0.5 && abs(legs_cut.y - 0.02 - p.y) < 0.014;
    wear(stuff, legs_on, belt ? shoes.rgb * 0.7 : legs_one.rgb, legs_two.rgb, belt ? vec4(0) : legs_pattern, 0.02, legs.w);
    wear(stuff, worn.y > 0.0 && !(legs_on && legs.y > 0.5), top_one.rgb, top_two.rgb, top_pattern, 0.02, top.w);
    wear(stuff, worn.z > 0.0, coat_one.rgb, coat_two.rgb, coat_pattern, coat.z, coat.w);
    vec3 last = abs(p.x) > shoulder ? gloves.rgb : home.w < -0.75 ? vec3(0.05) : shoes.rgb;
    wear(stuff, worn.w > 0.0, last, last, vec4(0), 0.08, 0.0);
    weave(stuff, max(max(worn.x, worn.y), max(worn.z, worn.w)) > 0.0);
#endif
    drawn = shade(stuff, p);
}
"""
)

SHELL_FRAGMENT = (
    _SHARED
    + _GARMENTS
    + _SHADE
    + """
void main() {
    vec3 p = home.xyz;
    Stuff stuff = Stuff(hair.rgb, hair.rgb, vec4(0), vec3(250, 12, 250), vec2(0.4, 0.9), hair.w, 0.0, 0.1, 0.3);
#ifdef CLOTH
    if (p.y < skirt.y || p.y > skirt.z) discard;
    wear(stuff, true, legs_one.rgb, legs_two.rgb, legs_pattern, 0.02, 0.01);
    weave(stuff, true);
#else
    if (p.y < mane.x + 0.03 * sin(p.x * 160.0 + camera.w)) discard;
#endif
    drawn = shade(stuff, p);
}
"""
)
"""A sheet of hair, or with CLOTH of a skirt, which has two sides. skirt is (worn, hem y, top y, flare), mane (end y, thickness,
-, worn)."""

HEAD_FRAGMENT = (
    _SHARED
    + _GARMENTS
    + _SHADE
    + """
void main() {
    vec3 p = home.xyz, c = vec3(abs(p.x), p.yz), base = skin.rgb;
    float front = step(ear.z, p.z), across = c.x / mouth.x;
    float full = sqrt(max(0.05, 1.0 - across * across));
    float lips = step(mouth.z - 0.004, p.z) * step(across, 1.0) * smoothstep(0.0125, 0.008, abs(p.y - mouth.y) / full);
    base = mix(base, skin.rgb * face.rgb, lips * 0.85);
    base *= 1.0 - 0.5 * lips * smoothstep(0.002, 0.0006, abs(p.y - mouth.y));
    float cheek = smoothstep(0.035, 0.01, length(c.xy - vec2(eye.x * 1.15, mix(eye.y, mouth.y, 0.55))));
    base *= mix(vec3(1), vec3(1.0, 0.86, 0.84), front * cheek * iris.w);
    float off = c.x - eye.x, arch = eye.y + 0.021 - 6.0 * off * off;
    float brow = smoothstep(0.0055, 0.003, abs(p.y - arch)) * smoothstep(0.024, 0.019, abs(off));
    base = mix(base, hair.rgb * 0.8 + 0.05 * skin.rgb, face.w * brow * front);
    base *= 1.0 - 0.4 * front * smoothstep(0.015, 0.0105, length((c.xy - eye.xy) * vec2(0.72, 1.1)));
    float low = mouth.y - 0.002 - 0.3 * max(0.0, 0.02 - c.x), high = mix(low, ear.y, smoothstep(0.03, 0.062, c.x));
    float around = step(mouth.x + 0.004, length((c.xy - vec2(0, mouth.y)) * vec2(1, 1.6)));
    float jaw = front * step(p.y, high) * step(neck.y + 0.015, p.y) * around;
    float lip_beard = step(abs(p.y - mouth.y - 0.0165), 0.006) * step(c.x, mouth.x) * front;
    float bearded = beard.w * max(jaw, lip_beard) * (1.0 - lips);
    base = mix(base, beard.rgb, bearded);
    bool bearded_here = bearded > 0.3;
    vec2 uneven = vec2(1.0 - 0.75 * skin.w, skin.w + 0.3 * bearded);
    Stuff stuff = Stuff(base, base, vec4(0), vec3(bearded_here ? 300.0 : 28.0), uneven, 0.12, 0.0, 0.25, 0.0);
    wear(stuff, worn.y > 0.0, top_one.rgb, top_two.rgb, top_pattern, 0.02, top.w);
    wear(stuff, worn.z > 0.0, coat_one.rgb, coat_two.rgb, coat_pattern, coat.z, coat.w);
    bool hairy = inside_hair(p) > 0.0, ball = marks.x > 4.0;
    wear(stuff, hairy, hair.rgb, hair.rgb, vec4(0), hair.w, 0.008);
    weave(stuff, hairy || max(worn.y, worn.z) > 0.0);
    stuff.grain = hairy ? vec3(250, 40, 250) : stuff.grain;
    stuff.uneven = hairy ? vec2(0.4, 0.9) : stuff.uneven;
    float away = length(c.xy - eye.xy);
    vec3 globe = away < 0.0028 ? vec3(0.004) : away < 0.006 ? iris.rgb : vec3(0.62, 0.58, 0.55);
    wear(stuff, ball, globe, globe, vec4(0), 0.5, 0.0);
    stuff.sharp = ball ? 1.0 : 0.0;
    drawn = shade(stuff, p);
}
"""
)

FINISH_VERTEX = """#version 330
in vec2 corner;
out vec2 share;
void main() {
    share = 0.5 * corner + 0.5;
    gl_Position = vec4(corner, 0.0, 1.0);
}
"""

FINISH_FRAGMENT = (
    _SHARED
    + f"""
const int TAPS = {TAPS};
const vec2 taps[TAPS] = vec2[TAPS](
"""
    + ",\n".join(f"    vec2({x:.4f}, {y:.4f})" for x, y in _normal_taps())
    + """);
in vec2 share;
out vec4 finished;
uniform sampler2D drawn;
uniform sampler2DArray pictures;
uniform vec4 rect, tile;
uniform float oversampling;
uniform int view;

// A shape is (2 x 2 matrix to its own axes, in which it reaches from -1 to 1), (middle, kind, size in px), (colour, -).
vec3 paint(vec3 under, vec2 p, vec4 axes, vec4 place, vec3 colour, float soft) {
    vec2 q = mat2(axes.xy, axes.zw) * (p - place.xy), a = abs(q);
    float reach = place.z < 0.5 ? 1.0 - max(a.x, a.y) : place.z < 1.5 ? 1.0 - length(q)
        : min(0.5 - a.x - 0.5 * q.y, 1.0 + q.y);
    return mix(under, colour, clamp(0.5 + 0.5 * reach * place.w / soft, 0.0, 1.0));
}
vec3 backdrop(vec2 p, float soft, float rough) {
#ifdef PICTURE
    vec2 q = picture.yz + (p - vec2(96, 128)) / 256.0 * wall.x;
    return texture(pictures, vec3(q, picture.x)).rgb;
#else
    vec2 q = p / 256.0;
    vec3 at = vec3(q * wall.x, camera.w);
    float cloudy = mix(noise(at), rough, floor_two.w);
    vec3 colour = mix(wall_one.rgb, wall_two.rgb, clamp(cloudy * wall.z * 2.0 + wall.y * (q.y - 0.5) + 0.1, 0.0, 1.0));
    {
        vec2 t = q * wall_one.w;
        t.x += 0.5 * step(1.0, mod(t.y, 2.0)) * wall_two.w;
        vec2 joint = abs(fract(t) - 0.5);
        float seam = 0.35 * smoothstep(0.44 - 0.02 * soft, 0.48 + 0.02 * soft, max(joint.x, joint.y));
        colour *= 1.0 - step(0.01, wall_one.w) * (seam - 0.1 + 0.2 * hash(vec3(floor(t), camera.w)));
    }
    float below = (p.y - floor_line.x) + floor_line.y * (p.x - 96.0);
    {
        float depth = 60.0 / (max(below, 0.0) + 14.0);
        vec2 t = vec2((p.x - 96.0) * depth / 60.0, depth) * floor_line.z;
        float boards = floor_one.w > 0.5 ? step(0.5, fract(t.x)) : 0.0;
        vec3 ground_colour = mix(floor_one.rgb, floor_two.rgb, 0.5 * boards + floor_two.w * rough);
        colour = mix(colour, ground_colour, smoothstep(-soft, soft, below));
    }
"""
    + "".join(
        f"    colour = paint(colour, p, shape{number}_axes, shape{number}, shape{number}_colour.rgb, soft);\n"
        for number in range(SHAPES)
    )
    + """    return colour;
#endif
}
void main() {
    vec2 p = rect.xy + share * rect.zw, middle = tile.xy + share * tile.zw;
    vec4 smear = view == 0 ? blur_0 : view == 1 ? blur_1 : blur_2;
    float reach = length(smear);
    vec2 size = vec2(textureSize(drawn, 0)), low = tile.xy + 0.5, high = tile.xy + tile.zw - 0.5;
    vec4 seen = vec4(0);
#ifdef SHARP
    seen = texture(drawn, clamp(middle, low, high) / size);
#else
    mat2 spread = oversampling * mat2(smear.xy, smear.zw);
    for (int i = 0; i < TAPS; i++) seen += texture(drawn, clamp(middle + spread * taps[i], low, high) / size);
    seen /= float(TAPS);
#endif
    float soft = (0.5 + reach) * oversampling * rect.z / tile.z;
    float rough = noise(vec3(p * wall.w, camera.w));
    vec3 colour = seen.rgb;
    colour += (1.0 - seen.a) * backdrop(p, soft + floor_line.w, rough);
    float worn_off = 0.8 + 0.4 * rough;
#ifndef CLEAR
"""
    + "".join(
        f"    colour = paint(colour, p, occluder{number}_axes, occluder{number}, worn_off * occluder{number}_colour.rgb, soft);\n"
        for number in range(OCCLUDERS)
    )
    + """#endif
    // exposure is (gain, how much darker the middle gets, contrast, saturation).
    colour = clamp(colour * balance.rgb * exposure.x, 0.0, 1.0);
    colour -= exposure.y * colour * (1.0 - colour);
    colour = mix(vec3(dot(colour, vec3(0.3, 0.59, 0.11))), colour, exposure.w);
    colour = (colour - 0.5) * exposure.z + 0.5;
    // Grain is coarser where a small part of I is shown large.
    vec2 pixel = floor(share * tile.zw / (oversampling * (view == 0 ? 1.0 : grain.z)));
    float seed = hash(vec3(pixel, fract(camera.w) * 91.0 + float(view)));
    vec4 random = fract(seed * vec4(1.0, 61.7, 317.3, 1543.1));
    colour += grain.x * (random.x + random.y - 1.0) + grain.y * (random.yzw - 0.5);
    float within = min(min(p.x - frame.x, frame.z - p.x), min(p.y - frame.y, frame.w - p.y));
    finished = vec4(clamp(colour, 0.0, 1.0) * step(0.0, within), 1.0);
}
"""
)
