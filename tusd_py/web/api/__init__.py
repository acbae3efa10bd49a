"""The status API: what uploads are like just now, for pages and programs. It reads; uploads change by tus alone."""
