#!/bin/sh
# Makes the secrets that the compose file mounts, once. An existing folder is left as it is.
set -eu
folder="${1:-$(dirname "$0")/secrets}"
[ ! -e "$folder" ] || { echo "$folder exists already." >&2; exit 1; }
random() { head -c 48 /dev/urandom | base64 | tr -d '/+=\n'; }
# Others cannot enter the folder; inside a container each file must be readable by the account that runs there.
umask 077
mkdir "$folder"
umask 022
postgres="$(random)"
redis="$(random)"
printf %s "$(random)" > "$folder/secret-key"
printf %s "$postgres" > "$folder/postgres-password"
printf %s "postgresql://opsportal:$postgres@postgres/opsportal" > "$folder/database-url"
printf %s "redis://opsportal:$redis@redis:6379/0" > "$folder/redis-url"
hash="$(printf %s "$redis" | sha256sum | cut -d ' ' -f 1)"
printf 'user default off\nuser opsportal on #%s ~* &* +@all -@dangerous +info\n' "$hash" > "$folder/redis-acl"
