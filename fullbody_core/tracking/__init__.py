"""Who is where in a video, from frame to frame: people, the camera's motion and the shots."""
