"""The ERP's web application: `erp_app` is the program, the folders beside it are what later releases changed in it.

`opsportal.demo.releases` puts releases together from them. A release runs in its own folder, without the portal: with
Python's standard library and psycopg.
"""
