# What the lanes are, for the scripts beside this file: constraints/lane-LANE.txt has the packages of each.
lanes_newest_first='b a'
declare -A pythons=([a]='3.10' [b]='3.13 3.12 3.11')  # preferred first
declare -A glibcs=([a]=2.17 [b]=2.39)                 # that the wheels need
glibc=$(getconf GNU_LIBC_VERSION | sed 's/.* //')

# is_python COMMAND VERSION: whether it really runs and can make environments; one on PATH may be a pyenv shim that only fails.
is_python() { "$1" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" >/dev/null 2>&1; }

# find_python VERSION: the first one of PYTHON, or else of PATH, pyenv and uv.
find_python() {
  local candidate
  for candidate in ${PYTHON:-"python$1" python3 "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python \
      "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}/cpython-$1".*/bin/python3}; do
    if is_python "$candidate" "$1"; then command -v "$candidate"; return; fi
  done
  return 1
}

# loads LANE: whether the glibc of this machine loads the wheels of a lane.
loads() { [ "$(printf '%s\n' "${glibcs[$1]}" "$glibc" | sort -V | head -n 1)" = "${glibcs[$1]}" ]; }
