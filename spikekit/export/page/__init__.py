"""The report on an exported network: one page of HTML that needs nothing else, and the same figures as JSON."""

from spikekit.export.page.write import page, write_report

__all__ = ["page", "write_report"]
