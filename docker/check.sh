#!/usr/bin/env bash
# Does the image do what the README says? Builds it, and runs it with the Docker engine of this machine.
#
#   docker/check.sh                     # fifteen minutes and 25 GB on two cores; packages come from the network
#   docker/check.sh --network host      # words for `docker build`
#
# Runs have no network: what they record offline needs none. `--gpus all` is tried where there is a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
docker version --format 'Docker Engine {{.Server.Version}}'

work=$(mktemp -d)
name=losslab-check-$$
finish() {
    code=$?
    docker rm --force "$name" > /dev/null 2>&1 || true
    docker run --rm --user 0 --volume "$work:/mnt" --entrypoint rm losslab -rf /mnt/outputs || true # of other users
    rm -rf "$work"
    [ "$code" = 0 ] || echo "FAILED after: ${did:-nothing}" >&2
}
trap finish EXIT

ok() { did=$*; printf '%4d s  %s\n' "$SECONDS" "$*"; }
fail() { echo "$*" >&2; exit 1; }
# an empty folder for results that any user may write to
fresh() { out=$work/outputs/$1; mkdir -p "$out"; chmod 777 "$out"; }
losslab() { docker run --rm --network none --volume "$out:/outputs" "${flags[@]}" "${image:-losslab}" "$@" > "$work/said" 2>&1; }
does() { losslab "$@" || fail "$(cat "$work/said")" "losslab $*"; }
refuses() { # a part of the sentence, and what is typed
    local sentence=$1 code=0
    shift
    losslab "$@" || code=$?
    [ "$code" = 1 ] && grep -q "^losslab: .*$sentence" "$work/said" && [ "$(wc -l < "$work/said")" = 1 ] ||
        fail "$(cat "$work/said")" "losslab $* ends with $code and not with one sentence"
}
folder() { echo "$out/$(tail -n 1 "$work/said" | cut -d / -f 2-)"; } # outputs/NAME is a run's last line
value() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$@"; }
is() { [ "$(value "$1/status.json" status)" = "$2" ] || fail "not $2: $(cat "$1/status.json")"; }
# docker stop, which must not have to kill
stopped() {
    local began=$SECONDS
    docker stop --time 60 "$name" > /dev/null
    code=$(docker inspect "$name" --format '{{.State.ExitCode}}')
    docker logs "$name" > "$work/said" 2>&1
    docker rm "$name" > /dev/null
    [ "$code" = 143 ] || fail "$(cat "$work/said")" "exit code $code after docker stop"
    took=$((SECONDS - began))
}

commit=$(git rev-parse HEAD)
docker build "$@" --tag losslab --build-arg "REVISION=$commit" .
ok "built: $(docker image inspect losslab --format '{{.Size}}' | awk '{printf "%.2f GB", $1 / 1e9}')"

docker build "$@" --quiet --file - --output "type=local,dest=$work/context" . > /dev/null <<< $'FROM scratch\nCOPY . .'
comm -23 <(cd "$work/context" && find . -type f | cut -c 3- | LC_ALL=C sort) \
    <(git ls-files --cached --others --exclude-standard | LC_ALL=C sort) > "$work/strays"
[ ! -s "$work/strays" ] || fail "this must not enter the context: $(cat "$work/strays")"
ok "the context: $(find "$work/context" -type f | wc -l) files, all known to git"

flags=()
fresh main
does loss=mae optimizer=adam
is "$(folder)" finished
grep -q "\"git_commit\": \"$commit\"" "$(folder)/status.json" || fail "the record does not say of which commit it is"
ok "the main job: test/rmse $(value "$(folder)/summary.json" test/rmse)"

key=0123456789abcdef0123456789abcdef01234567
for user in 1000:1000 4242:4242 0:0; do
    for system in "" "--read-only --tmpfs /tmp"; do
        # shellcheck disable=SC2206 # these are words
        flags=(--user "$user" $system --env "WANDB_API_KEY=$key")
        fresh "${user%:*}${system:+-read-only}"
        does loss=mae optimizer=adam trainer.max_epochs=2
        is "$(folder)" finished
        head -n 1 "$work/said" | grep -q ^task || fail "$(cat "$work/said")" "something is said before the run"
        ! grep -rl "$key" "$out" || fail "the W&B key was recorded"
        [ "$(stat -c %u "$(folder)/summary.json")" = "${user%:*}" ] || fail "the results are somebody else's"
        figure=$(value "$(folder)/summary.json" test/rmse)
        [ "$figure" = "${first:=$figure}" ] || fail "test/rmse is $figure, and was $first for another user"
        ok "as user $user $system: the same figures, and no W&B key in the record"
    done
done
! { docker history --no-trunc losslab; docker image inspect losslab; } | grep -i api_key || fail "a key is in the image"

flags=(--read-only --tmpfs /tmp)
fresh mistakes
refuses 'nearest: mae' loss=maee
refuses 'nearest: sweep' swep
[ -z "$(ls -A "$out")" ] || fail "a mistake left something behind"
chmod 555 "$out"
refuses 'outputs cannot be written' loss=mae
ok "mistakes: one sentence and exit code 1"

fresh processes
does trainer=ddp_cpu data=diabetes trainer.max_epochs=2
is "$(folder)" finished
ok "two processes: test/rmse $(value "$(folder)/summary.json" test/rmse)"

if command -v nvidia-smi > /dev/null; then
    flags+=(--gpus all)
    fresh gpu
    does loss=mae optimizer=adam trainer=gpu
    ok "on the GPU: test/rmse $(value "$(folder)/summary.json" test/rmse)"
else
    ok "there is no GPU here: docker run --gpus all was NOT tried"
fi

fresh sweep
does sweep sweeps/regression.yaml seed=0 trainer.max_epochs=1
does compare outputs/sweeps/regression
[ -s "$out/sweeps/regression/comparison/index.html" ] || fail "the comparison wrote no page"
does card loss=focal out=outputs/card.png
[ -s "$out/card.png" ] || fail "the card was not drawn"
ok "a sweep of $(find "$out/sweeps" -name summary.json | wc -l) runs, its comparison, and a card"

begin() { docker run --detach --name "$name" --network none --volume "$out:/outputs" "${flags[@]}" losslab "$@" > /dev/null; }
until_there() { # a file, within a minute
    for _ in $(seq 120); do
        # shellcheck disable=SC2086 # a pattern
        [ -z "$(ls $1 2> /dev/null)" ] || return 0
        sleep 0.5
    done
    fail "$(docker logs "$name" 2>&1)" "$1 is not there"
}
fresh stopped
begin task=single_label trainer.max_epochs=60
sleep 1
stopped
[ -z "$(ls -A "$out")" ] || fail "it had begun"
ok "docker stop before training begins: $took s, exit code 143"
begin task=single_label trainer.max_epochs=60
until_there "$out/digits-*/last.ckpt"
stopped
is "$(folder)" preempted
rows=$(wc -l < "$(folder)/history.csv")
does task=single_label trainer.max_epochs=60
is "$(folder)" finished
[ "$(find "$out" -name status.json | wc -l)" = 1 ] || fail "the same command began anew"
grep -q '^resumed ' "$work/said" || fail "$(cat "$work/said")" "the same command did not go on"
ok "docker stop in the midst: $took s, exit code 143, preempted after $((rows - 1)) epochs; the same command goes on to 60"
flags+=(--user 4242:4242)
fresh stopped-sweep
begin sweep sweeps/regression.yaml seed=0 trainer.max_epochs=100
until_there "$out/sweeps/regression/runs/*/last.ckpt"
stopped
ok "docker stop of a sweep: $took s, exit code 143"

docker build "$@" --quiet --target ray --tag losslab-ray . > /dev/null
flags=(--read-only --tmpfs /tmp --user 4242:4242)
fresh ray
image=losslab-ray does sweep sweeps/regression.yaml seed=0 trainer.max_epochs=1 loss=mse,mae optimizer=adam engine=ray n=2
ok "a sweep of $(find "$out/sweeps" -name summary.json | wc -l) runs on a Ray cluster in the container"

docker build "$@" --quiet --target test --tag losslab:test . > /dev/null
docker run --rm --network none --read-only --tmpfs /tmp:exec --volume "$PWD:/repository:ro" --workdir /tmp losslab:test \
    -n 0 -q -p no:cacheprovider /repository/tests/{test_main,config/test_check,test_losses,test_tasks,record/test_record}.py
ok "tests in the image, of a repository that is read only"
