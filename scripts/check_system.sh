#!/bin/sh
# Say in one line what this machine lacks, before anything is installed.
#
# usage: check_system.sh PYTHON [python] [sandbox]
#   python   an interpreter that is new enough and can make virtual environments
#   sandbox  bubblewrap, in which every line of a miner's code runs, git, and room in memory for the programs that run in it
set -eu

python=$1
shift
missing=""

need_python() {
    if ! command -v "$python" >/dev/null 2>&1; then
        missing="$missing python3 python3-venv"
    elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "Python 3.11 or newer is needed, $python is $("$python" -V 2>&1). Name another one: make PYTHON=python3.12 ..." >&2
        exit 1
    elif [ ! -e .venv/.created ] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        case $python in
            python3.*) missing="$missing $python-venv" ;;
            *) missing="$missing python3-venv" ;;
        esac
    fi
}

need_sandbox() {
    command -v bwrap >/dev/null 2>&1 || missing="$missing bubblewrap"
    command -v git >/dev/null 2>&1 || missing="$missing git"
    need_room
}

# What a validator and the tests copy to /dev/shm, and some room (ralph/sandbox/resident.py).
memory_mib=1200

need_room() {
    free_mib=$(df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
    if [ "${free_mib:-0}" -lt "$memory_mib" ]; then
        echo "/dev/shm has ${free_mib:-0} MiB free, $memory_mib are needed. Run:  sudo mount -o remount,size=4G /dev/shm" >&2
        exit 1
    fi
}

for what in "$@"; do
    "need_$what"
done
[ -n "$missing" ] || exit 0

for manager in "apt-get install -y" "dnf install -y" "zypper install -y" "pacman -S --needed"; do
    if command -v "${manager%% *}" >/dev/null 2>&1; then
        echo "This machine lacks:$missing. Run:  sudo $manager$missing" >&2
        exit 1
    fi
done
echo "This machine lacks:$missing. Install them with its package manager." >&2
exit 1
