#!/usr/bin/env bash
# The test suite on the lowest versions of all dependencies that pyproject.toml allows:
#
#     scripts/test_lowest.sh [PYTHON] [ARGUMENT OF PYTEST ...]
#
# They are installed into a virtual environment under .venv-tests/ (VENVS=FOLDER: elsewhere), which later runs use again. PyPI's
# wheels of torch contain CUDA: 5 GB.
set -euo pipefail
cd "$(dirname "$0")/.." || exit 2

python=${1:-python3.11}
environment=${VENVS:-.venv-tests}/lowest
[ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
"$environment/bin/python" - > "$environment/lowest.txt" <<'PYTHON'
import re, tomllib
for line in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]:
    name, version = re.match(r"([\w.-]+)>=([\w.]+)", line).groups()
    print(f"{name}=={version}")
PYTHON
"$environment/bin/pip" install --quiet --constraint "$environment/lowest.txt" -e '.[test]'
"$environment/bin/python" -m pytest -n 2 "${@:2}"
