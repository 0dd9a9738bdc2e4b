#!/usr/bin/env bash
# All that needs a GPU, in one go: the tests, then the bench tables, what matters most first. A part that fails or takes too long
# leaves its log, and the next one starts.
#
#   bash benchmarks/on_gpu.sh [FOLDER]      tables, their provenance and logs go there; default: $OUT, or results/bench
#   SECONDS_EACH=240 PYTHON=python3 bash benchmarks/on_gpu.sh
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-${OUT:-results/bench}}
python=${PYTHON:-.venv/bin/python}
device=${DEVICE:-cuda} # cpu tries the script itself
mkdir -p "$folder"

part() { # NAME COMMAND...
    local name=$1 began=$SECONDS
    shift
    timeout --kill-after=10 "${SECONDS_EACH:-240}" "$@" >"$folder/$name.log" 2>&1
    echo "$name: status $? after $((SECONDS - began)) s"
    tail -n 3 "$folder/$name.log"
}

part tests env VMAE_TEST_DEVICE="$device" "$python" -m pytest -m gpu -rs
for compile in false true; do
    part "vit_b_compile_$compile" "$python" -m vmae bench model --model vit_b --batch "${BATCH:-64}" --precision bf16 --steps "${STEPS:-30}" --warmup 5 \
        --set device="$device" --set compile="$compile" --out "$folder/vit_b_compile_$compile.csv"
done
for size in vit_b vit_s cubes512; do
    part "beside_$size" "$python" benchmarks/pretrain_step.py --device "$device" --size $size --precision bf16 --batch "${BATCH:-64}" \
        --rounds "${ROUNDS:-9}" --warmup 3 --compiled --out "$folder/beside_$size"
done
part memory "$python" benchmarks/decoder_memory.py --device "$device"
