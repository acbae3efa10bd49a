"""resumable-upload as its README mounts it, with downloads on so that uploads can be checked; the folder is UPLOAD_DIR.

Its database stands beside the folder, not in it: the benchmark empties large files there.
"""

import os

from resumable_upload import SQLiteStorage, TusServer
from resumable_upload.asgi import TusASGIApp

folder = os.environ["UPLOAD_DIR"]
storage = SQLiteStorage(db_path=f"{folder}.db", upload_dir=folder)
app = TusASGIApp(TusServer(storage=storage, base_path="/files", enable_downloads=True))
