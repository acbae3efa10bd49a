"""tusd_py: a resumable-upload server for the tus protocol."""

__version__ = "0.1.0"
