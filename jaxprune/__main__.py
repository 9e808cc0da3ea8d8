"""`python -m jaxprune` is the `jaxprune` command."""

import sys

from jaxprune.cli import main

sys.exit(main())
