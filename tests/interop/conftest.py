"""What is compared with what, above the results."""

import os

from loguru import logger
from sides import versions

import nphd

logger.disable("iscc_usearch")
os.environ.setdefault("TQDM_DISABLE", "1")


def pytest_report_header(config):
    return f"libnphd {nphd.__version__} ({nphd._core.kernel_name}) beside {versions()}"
