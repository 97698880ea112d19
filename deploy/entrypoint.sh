#!/bin/sh
# What a container does: web | control | operations [QUEUES] | beat | migrate | health | manage COMMAND...
set -eu
umask 077
role="${1:-web}"
[ "$#" -eq 0 ] || shift
case "$role" in
web)
    exec gunicorn opsportal.wsgi:application --bind "0.0.0.0:${PORT}" --preload --workers 2 --worker-class gthread \
        --threads 4 --graceful-timeout 30 --no-control-socket --worker-tmp-dir /dev/shm
    ;;
control)
    exec celery -A opsportal worker -Q control --pool solo -n control@%h --without-mingle --without-gossip
    ;;
operations)
    exec celery -A opsportal worker -Q "${1:-operations}" --pool prefork -c 2 -n operations@%h \
        --without-mingle --without-gossip
    ;;
beat)
    exec celery -A opsportal beat --pidfile=
    ;;
migrate)
    exec python manage.py migrate --noinput
    ;;
health)
    exec python deploy/health.py
    ;;
manage)
    exec python manage.py "$@"
    ;;
*)
    echo "Unknown role “$role”. Choose web, control, operations, beat, migrate, health or manage." >&2
    exit 64
    ;;
esac
