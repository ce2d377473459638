"""The dashboard: what people look at. A read API over watched objects and the archive, writes with the viewer's own rights, and the pages.

models/    what goes over the wire, as pydantic models; openapi.json is generated from them
routes.py  which path gives what: one table for the server and for the description
pages/     the pages' source (TypeScript)        static/  the built pages
"""
