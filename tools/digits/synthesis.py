"""Spoken digits made on the spot with eSpeak NG, for machines that have no corpus."""

from __future__ import annotations

import ctypes

import numpy as np
from corpus import SAMPLING_RATE, DigitRecording, resample
from lexicon import WORDS
from tqdm import tqdm

# One synthetic speaker is an accent with a timbre of eSpeak's; the last one by name is kept out of training.
VOICES = {
    "alba": "en-gb-scotland+f2",
    "boris": "en-us+m3",
    "carol": "en-us+f4",
    "david": "en+m1",
    "erica": "en-gb-x-rp+f1",
    "frank": "en-us-nyc+m7",
}
# eSpeak drops the end of the last word unless silence follows it.
TAIL = '<break time="400ms"/>'

_AUDIO_OUTPUT_SYNCHRONOUS_RETRIEVAL = 2
_FLAG_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_SSML = 0x10
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Synthesiser:
    """eSpeak NG through ctypes: text to samples. One per process, as eSpeak keeps global state."""

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            message = "no corpus given and eSpeak NG is missing: pip install espeakng-loader, or give --corpus-dir"
            raise RuntimeError(message) from error
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        path = espeakng_loader.get_data_path().encode()
        self.rate = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS_RETRIEVAL, 0, path, _FLAG_DONT_EXIT)
        if self.rate <= 0:
            raise RuntimeError(f"eSpeak NG did not start: code {self.rate}, data folder {path.decode()}")
        self._chunks: list[np.ndarray] = []
        self._callback = _CALLBACK(self._collect)  # kept alive: C holds only the pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: object, num_samples: int, _events: object) -> int:
        if samples and num_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(num_samples,)).copy())  # type: ignore[call-overload]
        return 0

    def speak(self, text: str, voice: str, words_per_minute: int, pitch: int) -> np.ndarray:
        """Return float32 samples at ``self.rate``, silence at both ends included."""
        self._chunks.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"voice: eSpeak NG has no {voice!r}")
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, 50)):
            self._library.espeak_SetParameter(parameter, value, 0)
        encoded = f"<speak>{text}{TAIL}</speak>".encode()
        self._library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, _CHARS_UTF8 | _SSML, None, None)
        self._library.espeak_Synchronize()
        if not self._chunks:
            raise RuntimeError(f"eSpeak NG returned no samples for {text!r} with voice {voice!r}")
        return np.concatenate(self._chunks).astype(np.float32) / 32768


def trim(samples: np.ndarray, threshold: float = 0.01) -> np.ndarray:
    """Cut what lies before the first and after the last sample above ``threshold`` of the peak."""
    loud = np.flatnonzero(np.abs(samples) > threshold * np.abs(samples).max(initial=0.0))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def synthesise_corpus(num_indices: int, seed: int = 0) -> list[DigitRecording]:
    """Make every digit by every voice ``num_indices`` times, each at a speed and a pitch of its own.

    The same seed gives the same words, voices, speeds and pitches; eSpeak's own samples differ a little each time.
    """
    synthesiser = Synthesiser()
    rng = np.random.default_rng(seed)
    recordings = []
    jobs = [(s, d, i) for s in VOICES for d in range(10) for i in range(num_indices)]
    for speaker, digit, index in tqdm(jobs, desc="speak", unit="recording"):
        speed, pitch = int(rng.integers(90, 200)), int(rng.integers(25, 80))
        spoken = synthesiser.speak(WORDS[digit], VOICES[speaker], speed, pitch)
        samples = trim(resample(spoken, synthesiser.rate, SAMPLING_RATE))
        recordings.append(DigitRecording(digit, speaker, index, samples))
    return recordings
