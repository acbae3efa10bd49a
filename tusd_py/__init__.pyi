from tusd_py.app import create_app as create_app
from tusd_py.config import Config as Config
from tusd_py.core.upload import Upload as Upload
from tusd_py.core.upload import parse_id as parse_id
from tusd_py.core.uploads import Uploads as Uploads
from tusd_py.errors import ConfigError as ConfigError
from tusd_py.errors import TusError as TusError

__version__: str
__all__ = ["Config", "ConfigError", "TusError", "Upload", "Uploads", "__version__", "create_app", "parse_id"]
