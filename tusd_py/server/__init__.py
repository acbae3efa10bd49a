"""The HTTP/1.1 server: uvicorn with a stricter protocol class, and the loop that starts and stops it."""
