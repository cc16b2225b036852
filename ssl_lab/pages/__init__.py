"""Pages to look at: one run, many side by side, a table; each a single file that needs no network."""

from ssl_lab.pages.ranking import ranking
from ssl_lab.pages.run_page import run_page, write_pages
from ssl_lab.pages.runs_page import runs_page
from ssl_lab.pages.table_page import table_page
from ssl_lab.pages.worth_page import worth_page

__all__ = ["ranking", "run_page", "runs_page", "table_page", "worth_page", "write_pages"]
