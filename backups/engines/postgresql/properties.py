"""What belongs to a database itself: owner, locale, limits, privileges, settings, comment. Read, and put back."""

from __future__ import annotations

import re
from typing import Any

from psycopg import sql

from backups.engines.base import Log
from backups.engines.postgresql.connect import Session, one
from backups.manifest import DatabaseProperties, Grant, Setting

# pg_dump's own list: settings whose stored value is a list of quoted names and must be given back name by name.
LIST_SETTINGS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}


def read_properties(session: Session) -> DatabaseProperties:
    """The properties of the session's database."""
    icu = "daticulocale" if session.info.server_version < 170000 else "datlocale"
    if session.info.server_version < 150000:
        locale = "'c'::text, NULL::text, NULL::text"
    elif session.info.server_version < 160000:
        locale = "datlocprovider::text, daticulocale, NULL::text"
    else:
        locale = f"datlocprovider::text, {icu}, daticurules"
    query = f"""
        SELECT r.rolname, pg_encoding_to_char(d.encoding), {locale}, d.datcollate, d.datctype, t.spcname,
               d.datconnlimit, d.datacl IS NULL, shobj_description(d.oid, 'pg_database')
        FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba JOIN pg_tablespace t ON t.oid = d.dattablespace
        WHERE d.datname = current_database()"""  # noqa: S608 - the three texts above, no input
    row: Any = session.execute(query.encode()).fetchone()
    owner, encoding, provider, locale, rules, collate, ctype, tablespace, limit, default_acl, comment = row
    return DatabaseProperties(
        owner=owner,
        encoding=encoding,
        locale_provider=provider,
        locale=locale,
        collate=collate,
        ctype=ctype,
        icu_rules=rules,
        tablespace=tablespace,
        connection_limit=limit,
        grants=None if default_acl else _read_grants(session),
        settings=_read_settings(session),
        comment=comment,
    )


def _read_grants(session: Session) -> list[Grant]:
    query = """
        SELECT r.rolname, a.privilege_type, a.is_grantable
        FROM pg_database d CROSS JOIN aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE d.datname = current_database() AND (a.grantee = 0 OR r.rolname IS NOT NULL) ORDER BY 1 NULLS FIRST, 2"""
    return [Grant(*row) for row in session.execute(query)]


def _read_settings(session: Session) -> list[Setting]:
    query = """
        SELECT r.rolname, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
        FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c LEFT JOIN pg_roles r ON r.oid = s.setrole
        WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY 1 NULLS FIRST, 2"""
    return [Setting(*row) for row in session.execute(query)]


def used_roles(session: Session) -> list[str]:
    """Roles that own or may use something in the database; the initial superuser is in no dependency, only an owner."""
    query = """
        WITH here AS (SELECT oid FROM pg_database WHERE datname = current_database()),
        mine AS (SELECT oid, nspowner FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'),
        used AS (
            SELECT refobjid AS role FROM pg_shdepend, here WHERE refclassid = 'pg_authid'::regclass
                AND (dbid = here.oid OR (classid = 'pg_database'::regclass AND objid = here.oid))
            UNION SELECT relowner FROM pg_class c JOIN mine ON mine.oid = relnamespace
            UNION SELECT proowner FROM pg_proc p JOIN mine ON mine.oid = pronamespace
            UNION SELECT nspowner FROM mine
            UNION SELECT datdba FROM pg_database WHERE datname = current_database())
        SELECT rolname FROM pg_roles JOIN used ON role = oid WHERE rolname !~ '^pg_' ORDER BY 1"""
    return [row[0] for row in session.execute(query)]


def used_tablespaces(session: Session) -> list[str]:
    """Tablespaces other than the default that hold something of the database."""
    query = """
        SELECT DISTINCT spcname FROM pg_tablespace t JOIN pg_class c ON c.reltablespace = t.oid
        WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1"""
    return [row[0] for row in session.execute(query)]


def create_statement(name: str, properties: DatabaseProperties, version_num: int, *, tablespace: bool) -> sql.Composed:
    """CREATE DATABASE for an empty database like the one that was dumped, on a server of that version."""
    parts = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {}").format(
            sql.Identifier(name), sql.Identifier(properties.owner)
        ),
        sql.SQL("ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
            sql.Literal(properties.encoding), sql.Literal(properties.collate), sql.Literal(properties.ctype)
        ),
    ]
    if version_num >= 150000:
        provider = {"c": "libc", "i": "icu", "b": "builtin"}[properties.locale_provider]
        parts.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.Identifier(provider)))
        option = {"i": "ICU_LOCALE", "b": "BUILTIN_LOCALE"}.get(properties.locale_provider)
        if option and properties.locale:
            parts.append(sql.SQL(option + " {}").format(sql.Literal(properties.locale)))
        if properties.icu_rules:
            parts.append(sql.SQL("ICU_RULES {}").format(sql.Literal(properties.icu_rules)))
    if tablespace and properties.tablespace != "pg_default":
        parts.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(properties.tablespace)))
    return sql.SQL(" ").join(parts)


def apply(session: Session, database: str, properties: DatabaseProperties, *, log: Log) -> None:
    """Put limit, privileges, settings and comment back, in one transaction; may be repeated.

    Who granted a privilege is not kept: every privilege is granted anew by the owner. A privilege or setting of a role
    that no longer exists is left out and logged.
    """
    known = {row[0] for row in session.execute("SELECT rolname FROM pg_roles")}
    name = sql.Identifier(database)
    with session.transaction():
        session.execute(
            sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, sql.Literal(properties.connection_limit))
        )
        session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(properties.comment)))
        session.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))
        for setting in properties.settings:
            if setting.role is not None and setting.role not in known:
                log(f"Setting {setting.name} of role “{setting.role}” is left out, the role does not exist.")
                continue
            session.execute(_setting_statement(name, setting))
        if properties.grants is not None:
            _apply_grants(session, name, properties, known, log)


def _setting_statement(name: sql.Identifier, setting: Setting) -> sql.Composed:
    who = (
        sql.SQL("ALTER DATABASE {}").format(name)
        if setting.role is None
        else sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(setting.role), name)
    )
    variable = sql.SQL(".").join(map(sql.Identifier, setting.name.split(".")))
    values = split_names(setting.value) if setting.name.lower() in LIST_SETTINGS else [setting.value]
    return sql.SQL("{} SET {} TO {}").format(
        who, variable, sql.SQL(", ").join(map(sql.Literal, values)) if values else sql.Literal("")
    )


def _apply_grants(
    session: Session, name: sql.Identifier, properties: DatabaseProperties, known: set[str], log: Log
) -> None:
    owner = sql.Identifier(properties.owner)
    session.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(name, owner))
    for grant in properties.grants or ():
        if grant.role is not None and grant.role not in known:
            log(f"Privilege {grant.privilege} of role “{grant.role}” is left out, the role does not exist.")
            continue
        if not re.fullmatch(r"[A-Z ]+", grant.privilege):
            raise ValueError(f"not a privilege: {grant.privilege!r}")
        session.execute(
            sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                sql.SQL(grant.privilege),
                name,
                sql.SQL("PUBLIC") if grant.role is None else sql.Identifier(grant.role),
                sql.SQL(" WITH GRANT OPTION") if grant.grantable and grant.role else sql.SQL(""),
            )
        )


def split_names(value: str) -> list[str]:
    """The names in a stored list such as ``"$user", public``."""
    found = re.findall(r'\s*(?:"((?:[^"]|"")*)"|([^",]+?))\s*(?:,|$)', value)
    return [quoted.replace('""', '"') if quoted or not plain else plain for quoted, plain in found if quoted or plain]


def role_exists(session: Session, role: str) -> bool:
    """Is there a role of that name?"""
    return bool(one(session, "SELECT 1 FROM pg_roles WHERE rolname = %s", [role]))
