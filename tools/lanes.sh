# What the lanes are, for the scripts beside this file: constraints/lane-LANE.txt has the packages of each.
lanes_newest_first='b a'
declare -A pythons=([a]='3.10' [b]='3.13 3.12 3.11')  # preferred first
declare -A glibcs=([a]=2.17 [b]=2.39)                 # that the wheels need
glibc=$(getconf GNU_LIBC_VERSION | sed 's/.* //')

# loads LANE: whether the glibc of this machine loads the wheels of a lane.
loads() { [ "$(printf '%s\n' "${glibcs[$1]}" "$glibc" | sort -V | head -n 1)" = "${glibcs[$1]}" ]; }
