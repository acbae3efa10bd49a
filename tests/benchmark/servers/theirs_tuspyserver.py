"""tuspyserver as its README mounts it; the folder is UPLOAD_DIR."""

import os

from fastapi import FastAPI
from tuspyserver import create_tus_router

app = FastAPI()
app.include_router(create_tus_router(prefix="files", files_dir=os.environ["UPLOAD_DIR"]))
