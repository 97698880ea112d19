"""Typed settings, read once from the environment.

Every value may be given as `NAME` or, for secrets, as `NAME_FILE` naming a file that holds it.
"""

import sys
from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()

# --- where things are -------------------------------------------------------------------------------------------------
DATA_DIR: Path = Path(env.str("DATA_DIR", default=str(BASE_DIR / "var"))).resolve()
PG_BIN: str = env.str("PG_BIN", default="")  # folder of PostgreSQL client programs; empty = found on PATH
# A password reference may name a file only below these folders, and only variables with this prefix.
SECRET_DIRS: list[Path] = [
    Path(p).resolve() for p in env.list("SECRET_DIRS", default=[str(DATA_DIR / "target-secrets"), "/run/secrets"])
]
SECRET_ENV_PREFIX = "OPS_SECRET_"

PORTAL_VERSION: str = env.str("PORTAL_VERSION", default="")  # empty: the checked-out commit
PORTAL_URL: str = env.str("PORTAL_URL", default="").rstrip("/")  # how people reach the portal, for links in commands

# --- who may talk to us -----------------------------------------------------------------------------------------------
DEBUG: bool = env.bool("DEBUG", default=False)
SECRET_KEY: str = env.str("SECRET_KEY", default="")
if not SECRET_KEY:
    if not DEBUG and not {"check", "makemigrations", "collectstatic", "test"} & set(sys.argv):
        sys.exit("SECRET_KEY is not set. Give SECRET_KEY or SECRET_KEY_FILE (50 random characters or more).")
    SECRET_KEY = "not-a-secret-only-for-commands-that-sign-nothing-0123456789-abcdefgh"
SECRET_KEY_FALLBACKS: list[str] = env.list("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
# The port on which this portal itself listens: nobody may make it ask itself.
PORTAL_PORT: int = env.int("PORT", default=0)
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# HTTPS is the default. The embedded stack speaks plain HTTP on loopback and says so with HTTPS=false.
HTTPS: bool = env.bool("HTTPS", default=True)
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = env.str("SESSION_COOKIE_NAME", default="opsportal_session")
CSRF_COOKIE_NAME = env.str("CSRF_COOKIE_NAME", default="opsportal_csrf")
SESSION_COOKIE_AGE = 12 * 3600
CSRF_COOKIE_HTTPONLY = False
BEHIND_PROXY: bool = env.bool("BEHIND_PROXY", default=False)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
        "img-src": ["'self'", "data:"],
    }
}

# --- applications -----------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "core.apps.CoreConfig",
    "operations.apps.OperationsConfig",
    "catalog.apps.CatalogConfig",
    "contacts.apps.ContactsConfig",
    "backups.apps.BackupsConfig",
    "webhooks.apps.WebhooksConfig",
    "survival.apps.SurvivalConfig",
    "deployments.apps.DeploymentsConfig",
    "incidents.apps.IncidentsConfig",
    "opsportal.apps.OpsportalConfig",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.postgres",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "auditlog",
    "axes",
    "csp",
    "django_htmx",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "survival.middleware.BreakGlassMiddleware",
    "core.middleware.TimeZoneMiddleware",
    "auditlog.middleware.AuditlogMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "opsportal.urls"
WSGI_APPLICATION = "opsportal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# --- the operations engine (seconds) ----------------------------------------------------------------------------------
OPERATIONS_LEASE_S: float = env.float("OPERATIONS_LEASE_S", default=30.0)
OPERATIONS_HEARTBEAT_S: float = env.float("OPERATIONS_HEARTBEAT_S", default=5.0)
OPERATIONS_TICK_S: float = env.float("OPERATIONS_TICK_S", default=1.0)

# --- backups ----------------------------------------------------------------------------------------------------------
ADOPT_DIRS: list[str] = env.list("ADOPT_DIRS", default=[])  # folders with backups that others have made

# --- how long records are kept (days; 0 keeps for ever) ---------------------------------------------------------------
KEEP_OPERATIONS_DAYS: int = env.int("KEEP_OPERATIONS_DAYS", default=400)
KEEP_LOGS_DAYS: int = env.int("KEEP_LOGS_DAYS", default=90)
KEEP_EVENTS_DAYS: int = env.int("KEEP_EVENTS_DAYS", default=90)
KEEP_SLOTS_DAYS: int = env.int("KEEP_SLOTS_DAYS", default=400)
KEEP_AUDIT_DAYS: int = env.int("KEEP_AUDIT_DAYS", default=730)
KEEP_ATTEMPTS_DAYS: int = env.int("KEEP_ATTEMPTS_DAYS", default=90)
KEEP_MESSAGES_DAYS: int = env.int("KEEP_MESSAGES_DAYS", default=400)
HOUSEKEEPING_CRON: str = env.str("HOUSEKEEPING_CRON", default="10 3 * * *")  # UTC; empty switches it off

# --- the portal's own survival ----------------------------------------------------------------------------------------
# The second place: a folder that outlives DATA_DIR, at best on another disk or machine.
PORTAL_BACKUP_DIR: Path = Path(
    env.str("PORTAL_BACKUP_DIR", default=str(DATA_DIR.parent / f"{DATA_DIR.name}-portal-backup"))
)
# An age recipient (age1…) or identity (AGE-SECRET-KEY-1…). Empty: an identity is made in PORTAL_KEY_DIR.
PORTAL_BACKUP_KEY: str = env.str("PORTAL_BACKUP_KEY", default="").strip()
PORTAL_KEY_DIR: Path = Path(env.str("PORTAL_KEY_DIR", default=str(DATA_DIR.parent / f"{DATA_DIR.name}-portal-key")))
PORTAL_BACKUP_CRON: str = env.str("PORTAL_BACKUP_CRON", default="30 1 * * *")  # UTC; empty switches it off
PORTAL_BACKUP_QUEUE: str = env.str("PORTAL_BACKUP_QUEUE", default="operations")
PORTAL_BACKUP_KEEP_DAYS: int = env.int("PORTAL_BACKUP_KEEP_DAYS", default=30)
PORTAL_BACKUP_KEEP_LAST: int = env.int("PORTAL_BACKUP_KEEP_LAST", default=7)
PORTAL_BACKUP_MAX_AGE_H: float = env.float("PORTAL_BACKUP_MAX_AGE_H", default=26.0)
# Where the offline card is written: folders, host:/folder for hosts of the catalog, s3://bucket/folder. Empty: nowhere.
OFFLINE_CARD_DIRS: list[str] = env.list("OFFLINE_CARD_DIR", default=[str(PORTAL_BACKUP_DIR / "offline-card")])
OFFLINE_CARD_MAX_AGE_H: float = env.float("OFFLINE_CARD_MAX_AGE_H", default=26.0)
S3_ENDPOINT: str = env.str("S3_ENDPOINT", default="").strip()  # such as https://s3.eu-central-1.amazonaws.com
S3_REGION: str = env.str("S3_REGION", default="us-east-1")
S3_ACCESS_KEY: str = env.str("S3_ACCESS_KEY", default="").strip()
S3_SECRET_KEY: str = env.str("S3_SECRET_KEY", default="").strip()
S3_NETWORKS: list[str] = env.list("S3_NETWORKS", default=[])  # internal networks, as 10.1.0.0/16
METRICS_TOKEN: str = env.str("METRICS_TOKEN", default="").strip()
HEARTBEAT_URL: str = env.str("HEARTBEAT_URL", default="").strip()
HEARTBEAT_EVERY_S: float = env.float("HEARTBEAT_EVERY_S", default=60.0)
HEARTBEAT_NETWORKS: list[str] = env.list("HEARTBEAT_NETWORKS", default=[])  # internal networks, as 10.1.0.0/16
SCHEDULE_LATE_AFTER_S: float = env.float("SCHEDULE_LATE_AFTER_S", default=300.0)

# --- messages to people -----------------------------------------------------------------------------------------------
EMAIL_HOST: str = env.str("EMAIL_HOST", default="").strip()  # the mail server; empty: no email is sent
EMAIL_DIR: str = env.str("EMAIL_DIR", default="").strip()  # without a mail server: write mail here, to try things out
EMAIL_PORT: int = env.int("EMAIL_PORT", default=25)  # usual: 587 with EMAIL_USE_TLS, 465 with EMAIL_USE_SSL
EMAIL_USER: str = env.str("EMAIL_USER", default="")
EMAIL_PASSWORD: str = env.str("EMAIL_PASSWORD", default="").strip("\r\n")
EMAIL_USE_TLS: bool = env.bool("EMAIL_USE_TLS", default=False)  # STARTTLS
EMAIL_USE_SSL: bool = env.bool("EMAIL_USE_SSL", default=False)
EMAIL_FROM: str = env.str("EMAIL_FROM", default="Ops Portal <ops-portal@localhost>").strip()
EMAIL_TIMEOUT: float = env.float("EMAIL_TIMEOUT", default=10.0)  # seconds; the next way is tried after it
NOTIFY_MAX: int = env.int(
    "NOTIFY_MAX", default=10
)  # messages for one recipient in ten minutes, then they are collected
CONTACTS_CONFIRM_DAYS: int = env.int("CONTACTS_CONFIRM_DAYS", default=90)  # remind who is unconfirmed so long; 0: never

# --- incidents --------------------------------------------------------------------------------------------------------
EVIDENCE_MAX_MB: int = env.int("EVIDENCE_MAX_MB", default=10)  # the biggest file that is kept with an incident
# Who gets the daily digest of the timelines' hash chains by mail; it also lies in the second place.
CHAIN_DIGEST_TO: list[str] = env.list("CHAIN_DIGEST_TO", default=[])

# --- the public status page -------------------------------------------------------------------------------------------
STATUS_PAGE: bool = env.bool("STATUS_PAGE", default=True)  # /status/, for people who have no account
STATUS_PAGE_TITLE: str = env.str("STATUS_PAGE_TITLE", default="Service status")

# --- database ---------------------------------------------------------------------------------------------------------
DATABASES = {"default": env.db_url("DATABASE_URL", default="postgresql:///opsportal")}
DATABASES["default"].update(
    CONN_MAX_AGE=60,
    CONN_HEALTH_CHECKS=True,
    TEST={"NAME": env.str("TEST_DB_NAME", default="test_opsportal")},
)
DATABASES["default"].setdefault("OPTIONS", {})
DATABASES["default"]["OPTIONS"].setdefault("connect_timeout", 10)
# A process frozen inside a transaction must not hold its row locks longer than half a lease.
FROZEN_MS = int(OPERATIONS_LEASE_S * 500)
DATABASES["default"]["OPTIONS"].setdefault("options", f"-c idle_in_transaction_session_timeout={FROZEN_MS}ms")

# --- people -----------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "core.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
AXES_LOCKOUT_TEMPLATE = "core/locked_out.html"

# --- language, time, static files -------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = ["opsportal.formats"]
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(DATA_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_MAX_AGE = 60
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Celery: a doorbell, nothing more ---------------------------------------------------------------------------------
CELERY_BROKER_URL: str = env.str("REDIS_URL", default="redis://localhost:6379/0")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, "health_check_interval": 25, "socket_timeout": 30}
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_DEFAULT_QUEUE = "operations"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 400_000  # KiB
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_BEAT_SYNC_EVERY = 1
CELERY_BEAT_MAX_LOOP_INTERVAL = 5

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO")},
}
CELERY_BEAT_SCHEDULE = {
    # Beat only nudges the control loop; what is due, and whether it ran, stands in the database.
    "operations.tick": {"task": "operations.tick", "schedule": 5.0, "options": {"queue": "control", "expires": 10}},
}
