#!/usr/bin/env bash
# The whole test suite on several versions of Python, one after the other:
#
#     scripts/test_pythons.sh python3.12 python3.13
#
# Each version gets a virtual environment under .venv-tests/ (VENVS=FOLDER: elsewhere), which later runs use again.
# Ends with a line for each version; the exit code is that of the first that failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

venvs=${VENVS:-.venv-tests}
code=0
results=()
for python in "$@"; do
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 2
  environment=$venvs/py$version
  [ -x "$environment/bin/python" ] || "$python" -m venv "$environment" || exit 2
  if "$environment/bin/pip" install --quiet --constraint constraints.txt -e '.[test]'; then
    summary=$("$environment/bin/python" -m pytest -n 2 -m "" 2>&1 | tee "$environment/tests.log" | tail -1)
    status=$?  # of pytest, by pipefail
  else
    summary="cannot be installed" status=2
  fi
  results+=("$("$environment/bin/python" --version): $summary")
  [ "$code" -ne 0 ] || code=$status
done
printf '%s\n' "${results[@]}"
exit "$code"
