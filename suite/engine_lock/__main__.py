"""`python -m suite.engine_lock`: list the differences from the lock, or write it."""

import sys

from suite.engine_lock.check import main

sys.exit(main())
