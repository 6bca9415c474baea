"""The battery that every optimizer and every task goes through: one promise a check, one line a message.

Each promise is judged in isolation where that can be had (the battery zeroes gradients and positions the
global generator itself, except where these are the question), so that one mistake breaks one promise.
"""

from suite.conformance.check import Check
from suite.conformance.optimizers import check_optimizer
from suite.conformance.tasks import check_task

__all__ = ["Check", "check_optimizer", "check_task"]
