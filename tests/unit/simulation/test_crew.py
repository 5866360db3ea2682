import signal
import threading

import pytest

from fedagg_edge.simulation.crew import Crew


@pytest.mark.parametrize("size", [1, 3])
def test_every_result_comes_once(size):
    with Crew[int](size) as crew:
        for i in range(10):
            crew.give(lambda i=i: i * i)
        assert crew.busy
        assert sorted(crew.next() for _ in range(10)) == [i * i for i in range(10)]
        assert not crew.busy


def test_one_at_a_time_works_in_the_callers_thread_in_the_order_given():
    seen = []
    with Crew[None](1) as crew:
        for i in range(3):
            crew.give(lambda i=i: seen.append((i, threading.current_thread())))
        assert not seen
        for _ in range(3):
            crew.next()
    assert seen == [(i, threading.current_thread()) for i in range(3)]


def test_as_many_as_its_size_are_at_work_at_a_time():
    meeting = threading.Barrier(3)
    with Crew[int](3) as crew:
        for _ in range(3):
            crew.give(lambda: meeting.wait(60))  # broken, with an error, if fewer come
        assert sorted(crew.next() for _ in range(3)) == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 2])
def test_what_a_job_raises_is_raised_where_its_result_is_fetched(size):
    def fail():
        raise KeyError("x")

    with Crew[None](size) as crew:
        crew.give(fail)
        with pytest.raises(KeyError, match="x"):
            crew.next()


def test_leaving_by_an_error_stops_jobs_that_would_run_on():
    running, ended = threading.Event(), threading.Event()

    def endless():
        try:
            while True:
                running.set()
        finally:
            ended.set()

    def leave():
        with Crew[None](2) as crew:
            crew.give(endless)
            running.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert ended.is_set()


def test_a_second_interrupt_does_not_leave_jobs_running():
    running, again, ended = threading.Event(), threading.Event(), threading.Event()

    def stubborn():
        running.set()
        try:
            while not again.is_set():  # the first stop finds it here
                pass
        except SystemExit:
            signal.raise_signal(signal.SIGINT)  # to the main thread, which waits for this one
            again.set()
            ended.set()

    def leave():
        with Crew[None](2) as crew:
            crew.give(stubborn)
            running.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert ended.is_set()
