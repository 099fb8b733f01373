#!/bin/sh
# Start Prometheus in a container that shares the host's network, and with that its name: sh container.sh SETTINGS [FLAG]...
#
# Prometheus expands no environment variables in labels of targets. So this writes SETTINGS to /tmp with the host's name as
# the instance of its own exporter, beside links to the files that SETTINGS names.
set -eu
settings=$1
shift
folder=${TMPDIR:-/tmp}
name=$(tr -cd 'A-Za-z0-9._-' </proc/sys/kernel/hostname)
ln -sf "$(dirname "$settings")"/* "$folder/"
sed "s/# labels: {instance: HOSTNAME}/labels: {instance: \"$name\"}/" "$settings" >"$folder/named.yml"
exec prometheus --config.file="$folder/named.yml" "$@"
