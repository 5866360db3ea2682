"""``python -m fedagg_edge`` is the command `fedagg`."""

from fedagg_edge.cli.main import main

raise SystemExit(main())
