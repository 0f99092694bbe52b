"""The commands that train, evaluate and time the networks: `fullbody train`, `fullbody evaluate` and `fullbody bench`."""

import importlib.resources
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from .cli_evaluate_refine import add_evaluate_refine
from .cli_evaluate_retarget import add_evaluate_retarget
from .cli_lifter import add_evaluate_lifter, add_train_lifter
from .usage import (
    UsageError,
    add_blender_choice,
    add_capture_settings,
    capture_settings,
    check_writable,
    make_folder,
    pick_device,
    progress_bar,
)


def add_train(commands):
    command = commands.add_parser("train", help="train a network")
    what = command.add_subparsers(required=True, metavar="NET")
    iknet = what.add_parser("iknet", help="BodyIKNet or HandIKNet", description="Trains an inverse-kinematics network.")
    iknet.add_argument("--part", choices=("body", "hand"), required=True)
    help_keypoints = "the body keypoints it is for (default: blazepose)"
    iknet.add_argument("--keypoints", choices=("blazepose", "smpl"), default="blazepose", help=help_keypoints)
    iknet.add_argument("--data", type=Path, metavar="FOLDER", help="motions in AMASS format (the hand needs none)")
    add_noise(iknet)
    iknet.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="run folder; a stopped run goes on"
    )
    iknet.add_argument("--steps", type=int, default=60_000)
    iknet.add_argument("--batch", type=int, default=512)
    help_rate = (
        "Adam's rate at the start and at the end of its cosine (default: 1e-3 and 1e-6; the paper's are 1e-4 and 1e-4)"
    )
    iknet.add_argument(
        "--learning-rate", type=float, nargs=2, default=(1e-3, 1e-6), metavar=("START", "END"), help=help_rate
    )
    iknet.add_argument("--seed", type=int, default=0)
    iknet.add_argument("--device", default="auto", help="cuda, cpu, or auto (default)")
    iknet.set_defaults(run=run_train_iknet)

    detnet = what.add_parser("detnet", help="DetNet: body, hand and face keypoints from pictures")
    detnet.add_argument("--preset", choices=("small", "full", "tiny"), default="small", help="settings (default: small)")
    add_people_data(detnet)
    add_datasets(detnet)
    detnet.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="run folder; a stopped run goes on"
    )
    detnet.add_argument("--steps", type=int, help="instead of the preset's")
    detnet.add_argument("--batch", type=int, help="instead of the preset's")
    detnet.add_argument("--backgrounds", type=Path, metavar="FOLDER", help="pictures to put behind synthetic people")
    detnet.add_argument("--held-out", type=int, default=256, metavar="N", help="held-out synthetic people (default: 256)")
    detnet.add_argument(
        "--overfit", type=int, metavar="N", help="a check: train on N fixed samples and measure on the same ones"
    )
    detnet.add_argument("--seed", type=int, default=0)
    detnet.add_argument("--device", default="auto", help="cuda, cpu, or auto (default)")
    detnet.set_defaults(run=run_train_detnet)

    add_train_lifter(what)

    facenet = what.add_parser("facenet", help="FaceNet: a face model's coefficients, light and pose from face crops")
    facenet.add_argument("--preset", choices=("small", "full", "tiny"), default="small", help="settings (default: small)")
    facenet.add_argument("--face", default="open", metavar="open|NAME|FILE", help="face model (default: the open face)")
    help_clips = "videos of faces to learn from, too, without any labels; FILE:START-END takes only these frames"
    facenet.add_argument("--clips", nargs="+", default=(), metavar="VIDEO", help=help_clips)
    facenet.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="run folder; a stopped run goes on"
    )
    facenet.add_argument("--steps", type=int, help="instead of the preset's")
    facenet.add_argument("--batch", type=int, help="instead of the preset's")
    facenet.add_argument("--seed", type=int, default=0)
    facenet.add_argument("--device", default="auto", help="cuda, cpu, or auto (default)")
    facenet.set_defaults(run=run_train_facenet)


def run_train_iknet(options):
    from .train.iknet import IKNetTraining, make_trainer, write_weights

    if options.part == "body" and options.data is None:
        raise UsageError("BodyIKNet learns from motions: give a folder of AMASS-format files with --data.")
    definition = {"hand": "hand_21"}.get(options.part, IKNET_DEFINITIONS[options.keypoints])
    start_rate, final_rate = options.learning_rate
    settings = IKNetTraining(
        part=options.part,
        definition=definition,
        steps=options.steps,
        batch=options.batch,
        learning_rate=start_rate,
        final_rate=final_rate,
        seed=options.seed,
    )
    trainer = make_trainer(settings, options.data, load_noise(options.noise), options.output, pick_device(options.device))
    make_folder(options.output)
    with run_log(options.output) as log:
        trainer.run(log)
    path = options.output / f"iknet_{definition}.safetensors"
    write_weights(trainer, path)
    print(f"Weights: {path}")


def run_train_detnet(options):
    from .train.detnet import PRESETS, make_trainer, write_weights
    from .train.detnet_sources import open_datasets

    changes = {name: value for name in ("steps", "batch") if (value := getattr(options, name)) is not None}
    readers = open_datasets(options.dataset)
    trainer = make_trainer(
        replace(PRESETS[options.preset], seed=options.seed, **changes),
        options.data,
        readers,
        options.output,
        device=pick_device(options.device),
        held_out=options.held_out,
        overfit=options.overfit,
        backgrounds=options.backgrounds,
        progress=progress_bar("Drawing people to measure on", "block"),
    )
    make_folder(options.output)
    with run_log(options.output) as log:
        network = trainer.run(log)
        log(trainer.final_table())
    for path in write_weights(network, options.output):
        print(f"Weights: {path}")


def run_train_facenet(options):
    from .face.load_face import load_face
    from .train.face_samples import ClipPart
    from .train.facenet import PRESETS, make_trainer, write_weights

    changes = {name: value for name in ("steps", "batch") if (value := getattr(options, name)) is not None}
    trainer = make_trainer(
        replace(PRESETS[options.preset], seed=options.seed, **changes),
        load_face(options.face),
        options.output,
        [ClipPart.parse(clip) for clip in options.clips],
        device=pick_device(options.device),
        progress=progress_bar("Looking for faces"),
    )
    make_folder(options.output)
    with run_log(options.output) as log:
        trainer.run(log)
        log(trainer.final_table())
    path = options.output / "facenet.safetensors"
    write_weights(trainer, path)
    print(f"Weights: {path}")


@contextmanager
def run_log(folder):
    """A function that prints a line and adds it to the folder's train.log."""
    with open(folder / "train.log", "a", encoding="utf-8") as log_file:

        def log(line):
            print(line, flush=True)
            print(line, file=log_file, flush=True)

        yield log


def add_datasets(command):
    command.add_argument(
        "--dataset",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="a public dataset as it was unpacked, such as coco FOLDER; may be given several times",
    )


IKNET_DEFINITIONS = {"blazepose": "blazepose_33_knuckles", "smpl": "smpl_33"}


def load_noise(path):
    """The detector's measured errors: a file's, or those that come with the project."""
    from .synth.detector_noise import DetectorNoise

    return DetectorNoise.load(path or importlib.resources.files("fullbody_core") / "assets" / "mediapipe_noise.npz")


def add_evaluate(commands):
    command = commands.add_parser("evaluate", help="measure quality and speed")
    what = command.add_subparsers(required=True, metavar="WHAT")
    clip = what.add_parser("clip", help="speed, validity and reprojection on videos, beside MediaPipe Holistic")
    clip.add_argument("videos", type=Path, nargs="+", metavar="VIDEO")
    add_capture_settings(clip)
    clip.set_defaults(run=run_evaluate_clip)
    live = what.add_parser(
        "live", help="the live path beside the offline one on videos: how near, how late, how steady, how fast"
    )
    live.add_argument("videos", type=Path, nargs="+", metavar="VIDEO")
    live.add_argument(
        "--smoothing",
        type=float,
        nargs="+",
        default=(0.0, 0.5, 1.0),
        metavar="X",
        help="0 responsive to 1 steady (default: 0 0.5 1)",
    )
    live.add_argument(
        "--overlay", type=Path, metavar="OUT.mp4", help="also write the video with the live skeleton drawn over it"
    )
    add_capture_settings(live)
    live.set_defaults(run=run_evaluate_live)
    ik = what.add_parser("ik", help="IKNet beside the closed form and a long optimisation, on held-out motions")
    add_motion_data(ik)
    add_noise(ik)
    ik.add_argument("--poses", type=int, default=2000, help="how many of each kind (default: 2000)")
    ik.set_defaults(run=run_evaluate_ik)

    detector = what.add_parser("detector", help="MediaPipe on renders of the open body, where the truth is known")
    add_motion_data(detector)
    detector.add_argument(
        "-o", "--output", type=Path, metavar="NOISE.npz", help="write its errors as a noise model for training"
    )
    detector.add_argument("--scenes", type=int, default=440, help="how many short scenes (default: 440, about half an hour)")
    detector.set_defaults(run=run_evaluate_detector)

    face = what.add_parser("face", help="a captured face on videos: landmarks, colours, blinks, jaw, identity")
    face.add_argument("videos", type=Path, nargs="+", metavar="CLIP")
    face.add_argument("--face", default="open", metavar="open|NAME|FILE", help="face model (default: the open face)")
    face.add_argument("--solver", choices=("landmarks", "facenet", "facenet-tight", "all"), default="landmarks")
    face.add_argument("--fov", type=float, metavar="DEG", help="field of view across the longer side of the pictures")
    face.set_defaults(run=run_evaluate_face)

    detnet = what.add_parser("detnet", help="DetNet on held-out synthetic people, and on public datasets")
    detnet.add_argument("--weights", type=Path, nargs="+", required=True, metavar="FILE", help="all files of its weights")
    add_people_data(detnet)
    add_datasets(detnet)
    detnet.add_argument("--split", help="of the datasets, by its name there (default: the one for training)")
    detnet.add_argument("--samples", type=int, default=512, help="how many of each source (default: 512)")
    detnet.add_argument("--device", default="auto", help="cuda, cpu, or auto (default)")
    detnet.set_defaults(run=run_evaluate_detnet)

    bridge = what.add_parser(
        "bridge", help="the seam between a body and a face: as a mesh, in shading, in motion, in Blender"
    )
    bridge.add_argument("--body", default="open", metavar="open|NAME|FILE", help="body model (default: the open body)")
    bridge.add_argument("--face", default="open", metavar="open|NAME|FILE", help="face model (default: the open face)")
    bridge.add_argument("--samples", type=int, default=200, help="how many random people and poses (default: 200)")
    help_blender = "the Blender to use (default: the bpy module, or blender on the PATH; without one that part is left out)"
    bridge.add_argument("--blender", metavar="EXE", help=help_blender)
    bridge.set_defaults(run=run_evaluate_bridge)

    facenet = what.add_parser("facenet", help="FaceNet on held-out synthetic faces")
    facenet.add_argument(
        "--weights", type=Path, metavar="FILE", help="its weights (default: those that come with the project)"
    )
    facenet.add_argument("--face", default="open", metavar="open|NAME|FILE", help="face model (default: the open face)")
    facenet.add_argument("--samples", type=int, default=512, help="how many faces (default: 512)")
    facenet.add_argument("--device", default="auto", help="cuda, cpu, or auto (default)")
    facenet.set_defaults(run=run_evaluate_facenet)
    add_evaluate_lifter(what)
    add_evaluate_retarget(what)
    add_evaluate_refine(what)


def run_evaluate_bridge(options):
    from .blender_process import BlenderError, find_blender
    from .body.lbs import to_character_template
    from .body.load_body import load_body
    from .contract.full_body import full_body_template
    from .evaluate.bridge import compare_in_blender, evaluate_bridge, format_bridge_report
    from .face.load_face import load_face
    from .full_body.bridges import recipe_for

    body, face = load_body(options.body), load_face(options.face)
    recipe = recipe_for(body, face, options.blender)
    body_template = to_character_template(body)
    template = full_body_template(body_template, face, recipe)
    figures = evaluate_bridge(body_template, face, recipe, template, options.samples)
    try:
        blender = find_blender(options.blender)
    except BlenderError:
        if options.blender is not None:
            raise
        in_blender = None
    else:
        in_blender = compare_in_blender(template, blender)
    print(format_bridge_report(f"{recipe.face_name} on {recipe.body_name}", *figures, in_blender))


def run_evaluate_facenet(options):
    from .evaluate.facenet import evaluate_facenet
    from .face.load_face import load_face

    print(evaluate_facenet(load_face(options.face), options.weights, options.samples, pick_device(options.device)))


def run_evaluate_detnet(options):
    from .evaluate.detnet import evaluate_detnet
    from .train.detnet_metrics import format_detnet_reports
    from .train.detnet_sources import open_datasets

    reports = evaluate_detnet(
        options.weights,
        options.data,
        open_datasets(options.dataset, **({"split": options.split} if options.split else {})),
        options.samples,
        pick_device(options.device),
        progress=progress_bar("Evaluating", "block"),
    )
    print(format_detnet_reports(reports))


def run_evaluate_detector(options):
    try:
        from .evaluate.detector import DetectorEvaluationError, evaluate_detector, format_report
    except ModuleNotFoundError as error:
        raise UsageError(f"Rendering needs {error.name}: install it with pip install 'fullbody-mocap[train]'.") from error
    if options.output:
        check_writable(options.output)
    try:
        report, noise = evaluate_detector(options.data, options.scenes, progress=progress_bar("Rendering", "scene"))
    except DetectorEvaluationError as error:
        raise UsageError(str(error)) from error
    print(format_report(report))
    if options.output:
        noise.save(options.output)
        print(f"Noise model: {options.output}")


def add_motion_data(command):
    command.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="motions in AMASS format")


def add_people_data(command):
    command.add_argument(
        "--data", type=Path, metavar="FOLDER", help="motions in AMASS format (default: poses drawn within joint limits)"
    )


def add_noise(command):
    help_noise = "errors of the detector (default: MediaPipe's, measured)"
    command.add_argument("--noise", type=Path, metavar="NOISE.npz", help=help_noise)


def run_evaluate_ik(options):
    from .evaluate.ik import evaluate_ik, format_ik_reports

    print(format_ik_reports(*evaluate_ik(options.data, load_noise(options.noise), options.poses)))


def run_evaluate_clip(options):
    from .evaluate.clip import evaluate_clip, format_reports

    settings = capture_settings(options)
    reports = [
        evaluate_clip(video, settings) for video in tqdm(options.videos, desc="Evaluating", unit="clip", disable=None)
    ]
    print(format_reports(reports))


def run_evaluate_live(options):
    from .evaluate.live import evaluate_live, format_live_reports
    from .live.solver import FACE_SOLVERS

    if options.face_solver not in FACE_SOLVERS:
        raise UsageError(f"The live path has no face solver {options.face_solver}: choose one of {', '.join(FACE_SOLVERS)}.")
    if not all(0 <= smoothing <= 1 for smoothing in options.smoothing):
        raise UsageError("The smoothing should be between 0 and 1.")
    if options.overlay is not None:
        if len(options.videos) > 1:
            raise UsageError("An overlay is of one video: give one with --overlay.")
        check_writable(options.overlay)
    settings, smoothings = capture_settings(options), tuple(options.smoothing)
    reports = [
        report
        for video in options.videos
        for report in evaluate_live(video, settings, smoothings, options.overlay, progress_bar(f"Watching {video.name}"))
    ]
    print(format_live_reports(reports))


def run_evaluate_face(options):
    from .camera import DEFAULT_FOV
    from .evaluate.face import SOLVERS, detect_face, evaluate_face, format_face_reports
    from .face.load_face import load_face

    model = load_face(options.face)
    solvers = SOLVERS if options.solver == "all" else (options.solver,)
    fov = DEFAULT_FOV if options.fov is None else options.fov
    clips = [detect_face(video, fov, progress_bar(f"Looking at {video.name}")) for video in options.videos]
    print(format_face_reports(*evaluate_face(clips, model, solvers)))


def add_bench(commands):
    command = commands.add_parser("bench", help="measure how fast the networks and the live link are here")
    what = command.add_subparsers(required=True, metavar="WHAT")
    detnet = what.add_parser("detnet", help="DetNet module by module, as in the paper's Table 1")
    detnet.add_argument("--size", choices=("full", "small", "tiny"), default="full", help="which DetNet (default: full)")
    add_timing(detnet)
    detnet.set_defaults(run=run_bench_detnet)
    facenet = what.add_parser("facenet", help="FaceNet alone, and with cutting faces out")
    facenet.add_argument("--face", default="open", metavar="open|NAME|FILE", help="face model (default: the open face)")
    add_timing(facenet)
    facenet.set_defaults(run=run_bench_facenet)
    faces = what.add_parser("faces", help="how many synthetic faces are drawn in a second, as samples for training")
    faces.add_argument("--face", default="open", metavar="open|NAME|FILE", help="face model (default: the open face)")
    faces.add_argument("--seconds", type=float, default=10.0, help="how long to draw (default: 10)")
    faces.set_defaults(run=run_bench_faces)
    people = what.add_parser("people", help="how many synthetic people are drawn in a second, as samples for training")
    add_people_data(people)
    people.add_argument("--seconds", type=float, default=10.0, help="how long to draw (default: 10)")
    people.set_defaults(run=run_bench_people)
    add_bench_live(what)


def add_bench_live(what):
    live = what.add_parser(
        "live",
        help="the live link: how late, how often and how steadily Blender shows a video",
        description="Captures a looping video live and shows it in a Blender in another process, and measures both.",
    )
    help_video = "what to capture (default: the demo's clip)"
    live.add_argument("--video", type=Path, metavar="FILE", help=help_video)
    live.add_argument("--seconds", type=float, default=30.0, help="how long to show it (default: 30)")
    add_blender_choice(live)
    live.add_argument(
        "--record", action="store_true", help="record a take, too, and compare its playback with what was shown"
    )
    live.add_argument("--body", default="open", metavar="open|NAME|FILE", help="body model (default: the open body)")
    live.add_argument("--face", default="open", metavar="open|NAME|FILE", help="face model (default: the open face)")
    live.set_defaults(run=run_bench_live)


def add_timing(command):
    command.add_argument("--batch", type=int, default=32, help="size of the large batch (default: 32)")
    command.add_argument("--threads", type=int, default=1, help="CPU cores to use (default: 1)")
    command.add_argument("--seconds", type=float, default=4.0, help="for each figure (default: 4)")
    command.add_argument("--device", default="auto", help="cuda, cpu, or auto (default)")


def run_bench_detnet(options):
    from .evaluate.detnet_timing import bench_detnet, format_timing

    device = pick_device(options.device)
    print(format_timing(bench_detnet(options.size, device, options.batch, options.threads, options.seconds)))


def run_bench_facenet(options):
    from .evaluate.facenet import bench_facenet, format_timing
    from .face.load_face import load_face

    device = pick_device(options.device)
    print(format_timing(bench_facenet(load_face(options.face), device, options.batch, options.threads, options.seconds)))


def run_bench_faces(options):
    from .face.load_face import load_face
    from .synth.face import FaceSampler, faces_per_second

    sampler = FaceSampler(load_face(options.face))
    print(f"{faces_per_second(sampler, options.seconds):.1f} faces a second, drawn by {sampler.renderer.name}")


def run_bench_live(options):
    from .blender_process import find_blender
    from .evaluate.live_link import LiveLinkError, bench_live, format_link_figures
    from .video import open_video

    if not 1 <= options.seconds <= 86_400:
        raise UsageError(f"--seconds should be from 1 to 86400, got {options.seconds:g}.")
    video = options.video or importlib.resources.files("fullbody_core") / "assets" / "demo.mp4"
    open_video(video)
    blender = find_blender(options.blender)
    try:
        figures = bench_live(video, options.seconds, blender, options.record, options.body, options.face)
    except LiveLinkError as error:
        raise UsageError(str(error)) from error
    print(format_link_figures(figures))


def run_bench_people(options):
    from .synth.people_samples import samples_per_second
    from .train.detnet_sources import open_people

    sampler = open_people(options.data, held_out=False)
    print(f"{samples_per_second(sampler, options.seconds):.1f} samples a second, drawn by {sampler.renderer.name}")
