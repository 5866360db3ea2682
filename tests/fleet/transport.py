"""A transport without a socket, for one end of HTTP; tests/unit/fleet/test_http1.py and tests/wire/fuzz_http.py."""

import asyncio


class Wire(asyncio.Transport):
    """Keeps what was written, and what was done to the connection."""

    def __init__(self):
        super().__init__()
        self.sent, self.ended, self.reading = [], None, True
        self.left = 0  # bytes of it that nobody has read

    def write(self, data):
        self.sent.append(bytes(data))

    def get_write_buffer_size(self):
        return self.left

    def is_closing(self):
        return self.ended is not None

    def close(self):
        self.ended = self.ended or "closed"

    def abort(self):
        self.ended = "aborted"

    def pause_reading(self):
        assert self.reading
        self.reading = False

    def resume_reading(self):
        assert not self.reading
        self.reading = True
