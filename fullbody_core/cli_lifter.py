"""`fullbody train lifter` and `fullbody evaluate lifter`."""

from pathlib import Path

from .usage import UsageError, make_folder, pick_device


def add_train_lifter(what):
    command = what.add_parser(
        "lifter",
        help="the lifter: windows of time to poses, contacts and the vertical",
        description="Trains the network from which the refinement of a whole clip starts, on BlazePose's keypoints.",
    )
    _add_data(command)
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="run folder; a stopped run goes on"
    )
    command.add_argument("--steps", type=int, default=20_000, help="a run that goes on may be given others")
    command.add_argument("--batch", type=int, default=24, help="windows a step (default: 24)")
    command.add_argument("--frames", type=int, default=48, help="frames a window, at 30 Hz (default: 48)")
    help_rate = "Adam's rate at the start and at the end of its cosine (default: 1e-3 and 1e-6)"
    command.add_argument(
        "--learning-rate", type=float, nargs=2, default=(1e-3, 1e-6), metavar=("START", "END"), help=help_rate
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--device", default="auto", help="cuda, cpu, or auto (default)")
    command.set_defaults(run=run_train_lifter)


def run_train_lifter(options):
    from .cli_networks import load_noise, run_log
    from .train.lifter import LifterTraining, make_trainer, write_weights

    start_rate, final_rate = options.learning_rate
    settings = LifterTraining(
        steps=options.steps,
        batch=options.batch,
        frames=options.frames,
        learning_rate=start_rate,
        final_rate=final_rate,
        seed=options.seed,
    )
    trainer = make_trainer(settings, options.data, load_noise(options.noise), options.output, pick_device(options.device))
    make_folder(options.output)
    with run_log(options.output) as log:
        trainer.run(log)
    path = options.output / "lifter_blazepose.safetensors"
    write_weights(trainer, path)
    print(f"Weights: {path}")


def add_evaluate_lifter(what):
    command = what.add_parser(
        "lifter",
        help="the lifter beside BodyIKNet on windows of held-out motions",
        description="Measures poses, contacts and the vertical on held-out motions as a detector would have seen them.",
    )
    _add_data(command)
    command.add_argument("--weights", type=Path, metavar="FILE", help="other weights than the shipped ones")
    command.add_argument("--windows", type=int, default=64, metavar="N", help="windows of 96 frames (default: 64)")
    command.set_defaults(run=run_evaluate_lifter)


def run_evaluate_lifter(options):
    from .cli_networks import load_noise
    from .evaluate.lifter import evaluate_lifter, format_lifter_reports
    from .ik.lifter import load_lifter

    if options.windows < 1:
        raise UsageError(f"At least one window is needed to measure on, got --windows {options.windows}.")
    network = load_lifter(options.weights)[0]
    print(format_lifter_reports(evaluate_lifter(options.data, load_noise(options.noise), options.windows, network)))


def _add_data(command):
    command.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="motions in AMASS format")
    help_noise = "the detector's measured errors (default: MediaPipe's, which come with the project)"
    command.add_argument("--noise", type=Path, metavar="FILE", help=help_noise)
