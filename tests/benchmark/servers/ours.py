"""tusd_py as a plain ASGI application, for any ASGI server: `uvicorn ours:create --factory`."""

from starlette.applications import Starlette

from tusd_py.app import create_app
from tusd_py.config import load


def create() -> Starlette:
    return create_app(load().config)  # from TUSD_PY_UPLOAD_DIR and its like
