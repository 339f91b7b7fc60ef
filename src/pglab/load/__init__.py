"""Fill a schema from a dataset: COPY first, keys and indexes afterwards, all or nothing."""

from pglab.load.loading import LoadReport, load
from pglab.load.seed import fill_seed

__all__ = ["LoadReport", "fill_seed", "load"]
