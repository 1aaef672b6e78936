"""What the cases of the Python clients share: their list, a deadline for each, one line of outcome.

A case is a function with the decorator `case`; it passes when it returns. `run` runs those that SF_COMPAT_CASES names, or all.
"""

import asyncio
import faulthandler
import inspect
import os
import signal
import sys
import traceback
import uuid

BOOTSTRAP = os.environ["SF_COMPAT_BOOTSTRAP"]
REGISTRY = os.environ.get("SF_COMPAT_REGISTRY", "")
KILLED_EVERY = float(os.environ.get("SF_COMPAT_KILLED_EVERY") or 0)
# How long a run with kills writes and reads: long enough for three kills.
KILLED_SECONDS = KILLED_EVERY * 3.5
CASE_SECONDS = 60

_cases = []


class NotRun(Exception):
    """What the case needs is not there."""


def case(function):
    _cases.append(function)
    return function


def name(prefix):
    """A name that no other case uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def need(variable):
    """A setting that the runner gives when the broker under test has the feature."""
    value = os.environ.get(variable)
    if not value:
        raise NotRun(f"{variable} is not set: the broker is not started with it")
    return value


def expect(actual, wanted, what):
    if actual != wanted:
        raise AssertionError(f"{what}: {actual!r} instead of {wanted!r}")


def _on_alarm(*_):
    raise TimeoutError("the case takes too long")


def run():
    faulthandler.enable()
    signal.signal(signal.SIGALRM, _on_alarm)
    wanted = [part for part in os.environ.get("SF_COMPAT_CASES", "").split(",") if part]
    for function in _cases:
        title = function.__name__.replace("_", "-")
        if wanted and title not in wanted:
            continue
        if title.startswith("killed-") != (KILLED_EVERY > 0):
            continue
        signal.alarm(int(CASE_SECONDS + 3 * KILLED_SECONDS))
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(function())
            else:
                function()
        except NotRun as why:
            print(f"not run: {title} ({why})")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            text = str(error).strip().splitlines() or [""]
            print(f"fail {title}: {type(error).__name__}: {text[0][:300]}")
            traceback.print_exc()
        else:
            print(f"pass {title}")
        finally:
            signal.alarm(0)
            sys.stdout.flush()
    # clients whose threads hang must not keep the process
    os._exit(0)
