"""The programs that draw heads, for OpenGL 3.3: the face in its light, what grows and hangs about it, what is behind and before.

FACE shows Eq. 5 of Zhou et al. 2021 at every vertex, so that the light of a label explains the pixels; gloss, pores and creases
come on top. ABOUT draws hair, ears, neck, clothes and glasses. FINISH averages down and adds the backdrop and things in the way.
All read one block of numbers per head, `FACE_FIELDS`; `face_looks` says what they are. Colours are linear RGB up to FINISH.
"""

OCCLUDERS, SHAPES = 3, 2

FACE_FIELDS = (
    "camera", "pose_x", "pose_y", "pose_z", "lamp",
    *(f"light{number}" for number in range(9)),
    "skin", "surface", "lips", "hair", "hairline", "mane", "cloth", "collar", "glasses", "lenses",
    "wall_one", "wall_two", "wall",
    *(f"shape{number}{part}" for number in range(SHAPES) for part in ("", "_axes", "_colour")),
    *(f"occluder{number}{part}" for number in range(OCCLUDERS) for part in ("", "_axes", "_colour")),
)  # fmt: skip
"""Names of the block's vec4s, in order. Where the four are not a colour and something of `face_looks`:

camera: half-widths of the crop per unit of x / z; a random number. pose: rows of head to camera. lamp: direction, strength
of gloss. light: colour of each harmonic, its constant included. skin: of neck and ears, oiliness. surface: pores, their
fineness, creases, freckles. lips: how they are tinted, how dark the lids' edges. hair: colour, whether any. hairline: height
(m), at the side, raggedness, how far the sides come forward. mane: thickness (m), whether long, how low, width. collar:
height, openness. glasses: colour of the frame, whether worn. lenses: colour, opacity. wall: scale, shading downwards,
clouds, tiles.
shape, occluder: middle, kind (0 box, 1 ellipse, 2 hand), half-width; _axes: 2 x 2 matrix into -1..1; in half-widths of the
crop.
"""

HAIR, NECK, EAR, CLOTHES, FRAMES, LENSES, MANE = range(7)
"""What a vertex of ABOUT is part of."""

_SHARED = (
    """#version 330
layout(std140) uniform Head {
"""
    + "".join(f"    vec4 {name};\n" for name in FACE_FIELDS)
    + """};
vec4 mixed_up(vec4 n) {
    n = fract(n * 0.1031);
    n *= n + 33.33;
    n *= n + n;
    return fract(n);
}
// Smooth noise 0..1 with features of about unit size.
float noise(vec3 p) {
    vec3 cell = floor(p), part = fract(p);
    part *= part * (3.0 - 2.0 * part);
    float start = dot(cell, vec3(1, 57, 113));
    vec4 near = mixed_up(start + vec4(0, 1, 57, 58)), far = mixed_up(start + vec4(113, 114, 170, 171));
    vec4 four = mix(near, far, part.z);
    vec2 two = mix(four.xz, four.yw, part.x);
    return mix(two.x, two.y, part.y);
}
"""
)

_LIT = """
vec3 to_camera(vec3 p) { return vec3(dot(pose_x.xyz, p), dot(pose_y.xyz, p), dot(pose_z.xyz, p)); }
vec3 light_on(vec3 n) {
    vec3 sum = light0.rgb + light1.rgb * n.y + light2.rgb * n.z + light3.rgb * n.x + light4.rgb * n.x * n.y;
    sum += light5.rgb * n.y * n.z + light6.rgb * (3.0 * n.z * n.z - 1.0) + light7.rgb * n.x * n.z;
    return max(sum + light8.rgb * (n.x * n.x - n.y * n.y), 0.0);
}
vec4 on_screen(vec3 at) { return vec4(camera.x * at.xy, (at.z * 10.1 - 1.0) / 9.9, at.z); }
"""
"""Near and far plane are 0.05 and 5 m."""

_SRGB = """
vec3 encode(vec3 c) {
    c = clamp(c, 0.0, 1.0);
    return mix(12.92 * c, 1.055 * pow(max(c, 0.0031308), vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c));
}
"""

_HAIRY = """
uniform vec3 ear, brow, chin;
// How far above the hairline a rest place is, m.
float above_hairline(vec3 p) {
    float side = clamp(abs(p.x) / ear.x, 0.0, 1.0), back = clamp((brow.z - 0.02 - p.z) / (brow.z - ear.z), 0.0, 1.0);
    float line = mix(hairline.x, hairline.y, smoothstep(0.55, 1.0, max(side, back)));
    line += 0.5 * hairline.z * (sin(p.x * 90.0 + camera.y) + sin(p.x * 260.0 + p.z * 170.0 + camera.y));
    line = mix(line, -1.0, step(p.z, ear.z - 0.01 + hairline.w));
    return p.y - line;
}
"""

FACE_VERTEX = (
    _SHARED
    + _LIT
    + _SRGB
    + _HAIRY
    + """
in vec3 place; in vec3 normal; in vec3 colour; in vec3 rest; in vec4 trait; in vec4 part;
out vec3 home; out vec3 skin_seen; out vec3 hair_seen; out vec2 marks;
void main() {
    vec3 at = to_camera(place) + vec3(pose_x.w, pose_y.w, pose_z.w), n = to_camera(normal);
    vec3 light = light_on(n) * (1.0 - surface.z * trait.x) * (1.0 - 0.75 * part.w);
    vec3 base = colour * mix(vec3(1), lips.rgb, part.x) * (1.0 - lips.w * part.y);
    base *= mix(vec3(1), hair.rgb * 2.0, 0.5 * part.z) * (1.0 + surface.x * trait.y * (noise(rest * surface.y + camera.y) - 0.5));
    float shine = max(dot(reflect(normalize(at), n), lamp.xyz), 0.0);
    shine *= shine; shine *= shine; shine *= shine;
    float sharp = shine * shine * shine;
    sharp *= sharp; sharp *= 4.0 * sharp;
    skin_seen = encode(base * light + lamp.w * mix(skin.w * shine * 0.12, 0.6 * sharp, trait.z) * light);
    hair_seen = encode(hair.rgb * light);
    home = rest;
    marks = vec2(above_hairline(rest) - 9.0 * (1.0 - step(0.5, hair.w) * step(0.5, trait.y)), trait.y);
    gl_Position = on_screen(at);
}
"""
)
"""trait: crease (0 open to 1), skin, eyeball, behind the face's edge; part: lips, lids' edges, brows, inside of the mouth. A face
has about as many vertices as pixels, so that light and colour are worked out at them, up to what a picture shows."""

FACE_FRAGMENT = (
    _SHARED
    + """
in vec3 home; in vec3 skin_seen; in vec3 hair_seen; in vec2 marks;
out vec4 drawn;
void main() {
    float fine = noise(home * 600.0 + camera.y);
    float pores = 1.0 + marks.y * (0.5 * surface.x * (fine - 0.5) - 0.5 * surface.w * smoothstep(0.76, 0.85, fine));
    vec3 colour = mix(skin_seen * pores, hair_seen * (0.7 + 0.5 * fine), smoothstep(-0.002, 0.002, marks.x));
    drawn = vec4(colour, 1.0);
}
"""
)

ABOUT_VERTEX = (
    _SHARED
    + _LIT
    + """
in vec3 place; in vec3 normal; in float kind;
out vec3 at; out vec3 home; out vec3 light; out float coarse; flat out float what;
void main() {
    vec3 p = place;
    if (kind == 0.0) p += normal * mane.x * (0.75 + 0.5 * noise(place * 40.0 + camera.y));
    if (kind == 6.0) {
        p.x *= mane.w;
        p.y = mix(p.y, p.y - mane.z, step(p.y, 0.0));
    }
    if (kind == 3.0) p.y += collar.x;
    home = place; what = kind; coarse = noise(place * vec3(60, 25, 60) + camera.y);
    at = to_camera(p) + vec3(pose_x.w, pose_y.w, pose_z.w);
    light = light_on(normalize(to_camera(normal)));
    gl_Position = on_screen(at);
}
"""
)

ABOUT_FRAGMENT = (
    _SHARED
    + _SRGB
    + _HAIRY
    + """
in vec3 at; in vec3 home; in vec3 light; in float coarse; flat in float what;
out vec4 drawn;
void main() {
#ifdef HAIR
#ifdef MANE
    // Only behind the ears, or it would show in an open mouth.
    if (home.z > ear.z - 0.01) discard;
#else
    if (above_hairline(home) < 0.0) discard;
#endif
    float strands = noise(home * vec3(420, 60, 420) + camera.y);
    vec3 base = hair.rgb * (0.3 + 0.6 * strands + 0.6 * coarse);
#else
    // What of the neck would show in an open mouth.
    if (what == 1.0 && home.y > chin.y + 0.006 && home.z > ear.z) discard;
    vec3 base = what == 1.0 ? skin.rgb * 0.7 : what == 2.0 ? skin.rgb : what == 3.0 ? cloth.rgb : glasses.rgb;
    base = what == 5.0 ? lenses.rgb : base;
    base *= what < 3.5 ? 0.75 + 0.5 * coarse : 1.0;
#endif
    float opacity = what == 5.0 ? lenses.w : 1.0;
    drawn = vec4(encode(base * light) * opacity, opacity);
}
"""
)


def variant(fragment, *names):
    """A program's text with some of its variants chosen."""
    return fragment.replace("#version 330\n", "#version 330\n" + "".join(f"#define {name}\n" for name in names), 1)


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
    + """
in vec2 share;
out vec4 finished;
uniform sampler2D drawn;
uniform vec4 tile;

float soft_box(vec2 q, float blend) {
    vec2 a = abs(q);
    return clamp(0.5 + (1.0 - max(a.x, a.y)) * blend, 0.0, 1.0);
}
// Four fingers and a thumb about a palm, seen flat.
float hand(vec2 q, float blend) {
    float reach = 1.0 - length(q * vec2(1.2, 1.4) - vec2(0, 0.45));
    for (int finger = 0; finger < 4; finger++) {
        float x = -0.6 + 0.4 * float(finger), top = -1.0 + 0.35 * abs(x + 0.1);
        vec2 d = q - vec2(x * (1.0 + 0.25 * -q.y), clamp(q.y, top, 0.5));
        reach = max(reach, 0.19 - length(d));
    }
    vec2 thumb = q - mix(vec2(0.5, 0.6), vec2(1.05, -0.1), clamp(dot(q - vec2(0.5, 0.6), vec2(0.69, -0.87)) , 0.0, 1.0));
    reach = max(reach, 0.2 - length(thumb));
    return clamp(0.5 + reach * blend, 0.0, 1.0);
}
vec3 paint(vec3 under, vec2 p, vec4 axes, vec4 place, vec4 colour) {
    vec2 q = mat2(axes.xy, axes.zw) * (p - place.xy);
    float blend = place.w * 64.0 / colour.a;
    float on = place.z < 0.5 ? soft_box(q, blend) : place.z < 1.5 ? clamp(0.5 + (1.0 - length(q)) * blend, 0.0, 1.0)
        : hand(q, blend);
    return mix(under, colour.rgb * (0.75 + 0.5 * noise(vec3(p * 5.0, camera.y))), on);
}
vec3 backdrop(vec2 p) {
    float cloudy = noise(vec3(p * wall.x, camera.y)), rough = noise(vec3(p * wall.x * 5.0, camera.y + 3.0));
    vec2 t = p * wall.w;
    float seam = step(0.01, wall.w) * smoothstep(0.42, 0.48, max(abs(fract(t.x) - 0.5), abs(fract(t.y) - 0.5)));
    float share = clamp(0.5 + wall.z * (cloudy + 0.4 * rough - 0.7) + wall.y * p.y, 0.0, 1.0);
    vec3 colour = mix(wall_one.rgb, wall_two.rgb, share) * (1.0 - 0.3 * seam);
"""
    + "".join(
        f"    colour = paint(colour, p, shape{number}_axes, shape{number}, shape{number}_colour);\n"
        for number in range(SHAPES)
    )
    + """    return colour;
}
void main() {
    vec2 p = 2.0 * share - 1.0;
    vec4 seen = texture(drawn, (tile.xy + share * tile.zw) / vec2(textureSize(drawn, 0)));
    vec3 colour = seen.rgb + (1.0 - seen.a) * backdrop(p);
"""
    + "".join(
        f"    if (occluder{number}.w > 0.001)\n"
        f"        colour = paint(colour, p, occluder{number}_axes, occluder{number}, occluder{number}_colour);\n"
        for number in range(OCCLUDERS)
    )
    + """    finished = vec4(clamp(colour, 0.0, 1.0), 1.0);
}
"""
)
"""Backdrop and what is in the way have colours as in a picture; _colour's last number is how soft the edge is, about px."""
