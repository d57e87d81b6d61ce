"""What a worker process does: jobs in by standard input, results out by standard output, until its parent is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import cv2

from plankter.workflow.portions import job_of, measure_job, measured_message, receive, send


def serve() -> None:
    """Works until standard input ends: that is how a parent stops it, and what happens where the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    cv2.setNumThreads(1)
    # whatever prints must not end up between the results
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(OSError):  # the parent is gone: nobody wants the result
        send(out, {"ready": True})
        while (message := receive(sys.stdin.buffer)) is not None:
            head, (origins,) = message
            try:
                result = measured_message(measure_job(job_of(head["job"], origins)))
            except Exception as error:  # noqa: BLE001 - a reader may be a plugin; the parent tries again and meets it
                send(out, {"number": head["number"], "failed": repr(error)})
            else:
                send(out, {"number": head["number"], "measured": result[0]}, *result[1:])
    sys.stdin.close()
    os._exit(0)  # not even a flush may wait for a parent that is gone
