#!/bin/sh
# Prints the events of one partition of a Tidemark topic with kcat: offset, stream, version, type, data.
# The reader's rule about claims (docs/wire-formats.md), for looking; an append of several events is not checked to be whole.
#
#   read-events.sh localhost:9092 shop.order.events 0
set -eu
kcat -C -q -e -b "$1" -t "$2" -p "$3" -o beginning -X isolation.level=read_uncommitted -f '%o\t%k\t%h\t%s\n' | awk -F '\t' '
  # Headers read name=value,name=value; the ones wanted here hold no comma.
  function header(name,   found) {
    found = "," $3
    if (!match(found, "," name "=[^,]*")) return ""
    return substr(found, RSTART + length(name) + 2, RLENGTH - length(name) - 2)
  }
  # What stands twice counts once: claims, and events.
  header("tm-kind") == "claim" { if (!claims[header("tm-claim")]++) claim = header("tm-claim"); next }
  claim != "" && header("tm-claim") == claim && !events[$2 "\t" header("tm-version") "\t" header("tm-id")]++ { print $1 "\t" $2 "\t" header("tm-version") "\t" header("tm-type") "\t" $4 }
'
