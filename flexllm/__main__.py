"""`python -m flexllm`."""

import sys

from .cli.main import main

sys.exit(main())
