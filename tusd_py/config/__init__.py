"""The settings: what there is and what it means (`settings`), of which kinds (`kinds`), read from where (`sources`),
printed how (`reference`); and what else the environment says (`environment`).
"""

from tusd_py.config.settings import SETTINGS as SETTINGS
from tusd_py.config.settings import Config as Config
from tusd_py.config.settings import Loaded as Loaded
from tusd_py.config.settings import from_texts as from_texts
from tusd_py.config.settings import load as load
from tusd_py.config.settings import to_texts as to_texts
