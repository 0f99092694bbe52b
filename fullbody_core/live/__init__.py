"""The live link: a camera or a video in, the person's motion out, frame by frame, to whoever watches."""
