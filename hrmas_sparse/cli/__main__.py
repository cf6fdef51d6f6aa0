"""``python -m hrmas_sparse.cli`` is the program ``hrmas``."""

import sys

from hrmas_sparse.cli import main

sys.exit(main())
