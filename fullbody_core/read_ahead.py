"""Work that runs a few steps ahead of its use."""

import queue
import threading


def decoded_ahead(frames, depth=4):
    """The same frames, decoded by a thread a few ahead of their use."""
    ready, stop = queue.Queue(depth), threading.Event()

    def put(item):
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def decode():
        try:
            for frame in frames:
                put((frame, None))
                if stop.is_set():
                    return
            put((None, None))
        except BaseException as error:  # handed to the reader, which raises it where the caller can see it
            put((None, error))

    thread = threading.Thread(target=decode, name="decode", daemon=True)
    thread.start()
    try:
        while True:
            frame, error = ready.get()
            if error is not None:
                raise error
            if frame is None:
                return
            yield frame
    finally:
        stop.set()
        thread.join()
