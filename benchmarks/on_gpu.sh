#!/usr/bin/env bash
# What needs a GPU, in one go, what matters most first: the comparison with transformers (speed, share of the measured matrix peak,
# memory) at three sizes, memory by decoder depth, where a step's time goes, a sweep at preset proxy, the tests, the bench. A part
# that fails or takes too long leaves its log, and the next one starts; none starts when the time is up. Needs torch, timm,
# transformers and pydantic; the bench simplejpeg too, the study typer, rich, submitit, av and pandas, the tests pytest,
# pytest-timeout, hypothesis and, where there is one for the machine, decord.
#
#   bash benchmarks/on_gpu.sh [PART...]     default: all parts, in the order below
#   TOTAL_S=570 PYTHON=python3 OUT=/there bash benchmarks/on_gpu.sh beside_vit_b memory
#
# Tables, their provenance and logs go to $FOLDER (default results/bench); if $OUT is set, to one file there instead, on_gpu.tar,
# which is written anew after each part.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
device=${DEVICE:-cuda} # cpu tries the script itself
total=${TOTAL_S:-570}
asked=" $* "
folder=${FOLDER:-${OUT:+$(mktemp -d)}}
folder=${folder:-results/bench}
mkdir -p "$folder"
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$(mktemp -d)} # what one part compiled the next one finds

part() { # NAME SECONDS COMMAND...
    local name=$1 began=$SECONDS limit=$2 left=$((total - SECONDS))
    shift 2
    [[ $asked == "  " || $asked == *" $name "* ]] || return 0
    if ((left < 20)); then
        echo "$name: not begun, the $total s are over"
        return 0
    fi
    timeout --kill-after=5 $((limit < left ? limit : left)) "$@" >"$folder/$name.log" 2>&1
    echo "$name: status $? after $((SECONDS - began)) s"
    tail -n 8 "$folder/$name.log" | cut -c -400
    [[ -z ${OUT:-} ]] || tar -C "$folder" -cf "$OUT/on_gpu.tar" .
}

beside() { # SIZE SECONDS MORE...
    local size=$1 limit=$2
    shift 2
    part "beside_$size" "$limit" "$python" benchmarks/pretrain_step.py --device "$device" --size "$size" --precision bf16 \
        --batch "${BATCH:-64}" --rounds "${ROUNDS:-9}" --warmup 3 --ahead --compiled --out "$folder/beside_$size" "$@"
}

study() { # the sweep at preset proxy, on fresh data; what it leaves but weights
    export VMAE_DATA=${VMAE_DATA:-$(mktemp -d)} VMAE_RUNS=${VMAE_RUNS:-$(mktemp -d)}
    part data "${SECONDS_EACH:-120}" "$python" -m vmae data make --size full
    [[ $device == cpu ]] && profile=local || profile=gpu
    part study "${SECONDS_EACH:-400}" "$python" -m sweeps submit evidence_proxy --profile "$profile"
    part archive "${SECONDS_EACH:-60}" "$python" -m analysis archive evidence_proxy --to "$folder/evidence_proxy.zip"
}

beside vit_b "${SECONDS_EACH:-300}" --also graph "compiled graph" "residual compiled graph" "shared compiled graph"
part memory "${SECONDS_EACH:-60}" "$python" benchmarks/decoder_memory.py --device "$device"
part profile "${SECONDS_EACH:-60}" "$python" benchmarks/pretrain_step.py --device "$device" --size vit_b --precision bf16 \
    --batch "${BATCH:-64}" --warmup 3 --compiled --profile
beside cubes512 "${SECONDS_EACH:-150}" --also graph "compiled graph" "shared compiled graph"
beside vit_s "${SECONDS_EACH:-150}" --also graph "compiled graph" "shared compiled graph"
[[ $asked != *" study "* ]] || asked+="data archive "
study
# The files by name: another one that cannot be imported here must not end them.
part tests "${SECONDS_EACH:-240}" env VMAE_TEST_DEVICE="$device" "$python" -m pytest -m gpu -rfEs $(grep -rl --include="*.py" "mark\.gpu" tests)
for compile in true false; do
    part "vit_b_compile_$compile" "${SECONDS_EACH:-120}" "$python" -m vmae bench model --model vit_b --batch "${BATCH:-64}" \
        --precision bf16 --steps "${STEPS:-30}" --warmup 5 --set device="$device" --set compile="$compile" \
        --out "$folder/vit_b_compile_$compile.csv"
done
