"""Run icefall's yesno recipe with the losses of this package: CTC, then lattice MWER over HLG, then decoding.

    python tools/icefall/yesno.py --icefall-dir icefall --work-dir work

Copies the recipe from a checkout of icefall, speaks the 60 files with eSpeak NG where no ``--wave-dir`` is given,
applies ``yesno.diff``, and runs the recipe's own stages. Needs the full environment. Writes ``result.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SAMPLING_RATE = 8000
NUM_FILES, NUM_WORDS = 60, 8
DIFF = Path(__file__).with_name("yesno.diff")


def get_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icefall-dir", type=Path, required=True, help="a checkout of icefall")
    parser.add_argument("--work-dir", type=Path, required=True, help="where the recipe is copied to and run")
    parser.add_argument("--wave-dir", type=Path, help="the corpus's waves_yesno, where it is at hand")
    parser.add_argument("--topology", default="correct")
    parser.add_argument("--num-epochs", type=int, default=15)
    parser.add_argument("--mwer-start-epoch", type=int, default=10)
    return parser


def speak(folder: Path) -> None:
    """Write 60 files of eight words, yes or no, named by what they say."""
    import soundfile

    sys.path.insert(0, str(ROOT / "tools" / "digits"))
    from corpus import resample
    from synthesis import Synthesiser, trim

    synthesiser, rng = Synthesiser(), np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in rng.choice(2**NUM_WORDS, NUM_FILES, replace=False):
        bits = [int(pattern) >> place & 1 for place in range(NUM_WORDS)]
        parts = [np.zeros(SAMPLING_RATE // 4, dtype=np.float32)]
        for bit in bits:
            word = synthesiser.speak("yes" if bit else "no", "en-us+m3", int(rng.integers(100, 170)), 50)
            pause = np.zeros(int(rng.uniform(0.1, 0.4) * SAMPLING_RATE), dtype=np.float32)
            parts += [trim(resample(word, synthesiser.rate, SAMPLING_RATE)), pause]
        samples = np.concatenate(parts)
        samples += 1e-3 * rng.standard_normal(len(samples)).astype(np.float32)
        soundfile.write(folder / f"{'_'.join(map(str, bits))}.wav", samples, SAMPLING_RATE, subtype="PCM_16")


def copy_recipe(args: argparse.Namespace) -> tuple[Path, dict[str, str]]:
    """Copy the recipe and change it; return its folder and the environment it runs in."""
    recipe = args.work_dir / "yesno"
    shutil.copytree(args.icefall_dir / "egs" / "yesno" / "ASR", recipe, dirs_exist_ok=True)
    subprocess.run(["patch", "-p1", "--input", str(DIFF)], cwd=recipe, check=True)
    compile_hlg = recipe / "local" / "compile_hlg.py"
    # k2 1.23.4 refuses labels that were changed in place.
    text = compile_hlg.read_text(encoding="utf-8").replace("labels = LG.labels\n", "labels = LG.labels.clone()\n")
    compile_hlg.write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join([str(args.icefall_dir.resolve()), str(ROOT)])
    # The recipe's processes are small: threads would only get in each other's way.
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return recipe, {**os.environ, **threads, "PATH": path, "PYTHONPATH": python_path}


def run(args: argparse.Namespace) -> dict[str, object]:
    """Run all stages; return the losses of each epoch and the word error rate."""
    recipe, environment = copy_recipe(args)
    waves = recipe / "download" / "waves_yesno"
    if args.wave_dir is not None:
        shutil.copytree(args.wave_dir, waves, dirs_exist_ok=True)
    else:
        speak(waves)
    seconds = {}
    options = ["--topology", args.topology, "--mwer-start-epoch", str(args.mwer_start_epoch)]
    commands = {
        "prepare": ["bash", "prepare.sh", "--stage", "1"],
        "train": [sys.executable, "tdnn/train.py", "--num-epochs", str(args.num_epochs), *options],
        "decode": [sys.executable, "tdnn/decode.py", "--epoch", str(args.num_epochs - 1), "--avg", "1"],
    }
    said = {}
    for name, command in commands.items():
        start = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=recipe,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        (recipe / f"{name}.log").write_text(done.stdout, encoding="utf-8")
        if done.returncode != 0:
            raise SystemExit(
                f"{name} failed with status {done.returncode}; the end of {recipe / name}.log:\n{done.stdout[-2000:]}"
            )
        seconds[name], said[name] = round(time.perf_counter() - start, 1), done.stdout
    losses = re.findall(r"Epoch (\d+), batch \d+, loss\[loss=([-\d.e+]+)", said["train"])
    rates = re.findall(r"%WER\s*=?\s*([\d.]+)", said["decode"])
    result = {
        "topology": args.topology,
        "mwer_start_epoch": args.mwer_start_epoch,
        "loss_per_frame": {f"epoch {epoch}": float(loss) for epoch, loss in losses},
        "word_error_rate": float(rates[-1]),
        "seconds": seconds,
    }
    (args.work_dir / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    print(json.dumps(run(get_parser().parse_args()), indent=2))
