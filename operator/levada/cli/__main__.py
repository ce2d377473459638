"""`python -m levada.cli`: the command line where the `levada` script is not on PATH."""

from levada.cli.main import main

main()
