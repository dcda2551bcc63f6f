#!/usr/bin/env bash
# Everything that needs a GPU, in one go of less than four minutes: tests, latencies, a step of distillation.
#
#     benchmarks/gpu.sh OUT [MODEL] [--policy FOLDER] [--sentences FILE] [--packed FOLDER]
#
# OUT gets log.txt, gpu.json and distill.json. A part that fails or takes too long does not stop the others.
set -u
out=${1:?"usage: benchmarks/gpu.sh OUT [MODEL] [--policy FOLDER] [--sentences FILE] [--packed FOLDER]"}
shift
told=() packed=()
while (($#)); do
  if [[ $1 == --packed ]]; then packed=(--packed "$2"); shift 2; else told+=("$1"); shift; fi
done
cd "$(dirname "$0")/.." || exit 1
mkdir -p "$out"
export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}src:benchmarks" PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1

part() { # name, seconds, command
  local name=$1 seconds=$2
  shift 2
  echo "=== $name (at most $seconds s)"
  local began=$SECONDS
  timeout --kill-after=5 "$seconds" "$@"
  echo "=== $name: exit status $? after $((SECONDS - began)) s"
}

{
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
  # Warnings of other versions of libraries are no failures here.
  part tests 70 python3 -m pytest -q -p no:cacheprovider -W default -m gpu --durations=5 \
    tests/engine/test_on_gpu.py tests/engine/test_torch_graphs.py tests/training/test_on_gpu.py
  part latency 104 python3 benchmarks/gpu.py --seconds 92 --json "$out/gpu.json" ${told[@]+"${told[@]}"}
  part distillation 56 python3 benchmarks/distill_step.py --json "$out/distill.json" ${packed[@]+"${packed[@]}"}
} 2>&1 | tee "$out/log.txt"
