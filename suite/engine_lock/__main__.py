"""`python -m suite.engine_lock`: list what differs from the lock, or write it."""

import sys

from suite.engine_lock.check import main

sys.exit(main())
