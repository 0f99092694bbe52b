# SPDX-License-Identifier: GPL-3.0-or-later
"""How the add-on's programs without windows are given their arguments, and how they tell what came of it."""

import json
import sys


def own_arguments():
    """The program's arguments: Blender's own come before a "--"."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]


def exit_code(work, errors):
    """Does `work()` and prints what it returns as one line of JSON: 0; or 1 after one of `errors` as a sentence on stderr."""
    try:
        made = work()
    except errors as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(made), flush=True)
    return 0
