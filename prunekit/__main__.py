"""The command ``prunekit``, which hands over to one of :data:`COMMANDS`; ``python -m prunekit`` is the same."""

import difflib
import runpy
import signal
import sys
from importlib.metadata import version

COMMANDS = {
    "train": "a run, or with -m a sweep of runs: dense training, pruning, results",
    "shrink": "a checkpoint of your own recurrent network, made smaller without labels",
    "extract": "the features of clips, computed and kept",
    "report": "tables and figures of a folder of runs",
    "compare": "verdicts on ways of making networks smaller, over the runs of several tasks",
    "explain": "what an image classifier went by",
    "export": "a run's compact network as files for use elsewhere",
    "predict": "the actions that an exported recogniser sees in video files or in a stream",
}


def main() -> None:
    """Hand over to the command that the first argument names; what follows is the command's own."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("usage: prunekit COMMAND ..., and prunekit COMMAND --help says more\n")
        print("\n".join(f"  {command:8} {words}" for command, words in COMMANDS.items()))
        return
    if name == "--version":
        print(f"prunekit {version('prunekit')}")
        return
    if name not in COMMANDS:
        nearest = "".join(f" (did you mean {each}?)" for each in difflib.get_close_matches(name, COMMANDS, 1))
        print(f"error: command: got {name!r}{nearest}; accepted: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    if {"-h", "--help", "--hydra-help"} & {*sys.argv} and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # what reads the help may stop reading, as `head` does
    if sys.stderr.isatty():
        print(f"prunekit {name}: loading PyTorch and what it takes ...", file=sys.stderr)
    # As `python -m` would run it, so that processes started for further devices run the same.
    runpy.run_module(f"prunekit.app.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
