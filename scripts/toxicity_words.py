"""Makes services/moderation/models/words.bin from the package alt-profanity-check (MIT), which is not needed otherwise:

    python -m venv /tmp/words && /tmp/words/bin/pip install alt-profanity-check==1.9.1
    /tmp/words/bin/python scripts/toxicity_words.py services/moderation/models

It also writes words_expected.json: what the package says of some texts, for the test that compares.
"""

from __future__ import annotations

import gzip
import json
import sys
from array import array
from pathlib import Path

SAMPLES = (
    "What a lovely morning, hello to all",
    "you are a stupid idiot and nobody likes you",
    "this damn printer is garbage",
    "Shut up, you pathetic moron",
    "number 12 of 40",
    "",
    "Thanks so much for the help yesterday!",
    "I will kill this bug before lunch",
    "Der Zug kommt heute später",
    "sucks sucks sucks",
)


def main(folder: Path) -> None:
    """Writes both files."""
    import joblib
    import profanity_check

    data = Path(profanity_check.__file__).parent / "data"
    vectorizer, model = joblib.load(data / "vectorizer.joblib"), joblib.load(data / "model.joblib")
    words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    fitted = [one.estimator for one in model.calibrated_classifiers_]
    curves = [one.calibrators[0] for one in model.calibrated_classifiers_]
    machines = [[float(svm.intercept_[0]), curve.a_, curve.b_] for svm, curve in zip(fitted, curves, strict=True)]
    numbers = array("f")
    for place in range(len(words)):
        numbers.append(vectorizer.idf_[place])
        numbers.extend(float(svm.coef_[0][place]) for svm in fitted)
    head = json.dumps({"words": words, "machines": machines}, ensure_ascii=False).encode()
    (folder / "words.bin").write_bytes(gzip.compress(head + b"\n" + numbers.tobytes(), 9, mtime=0))
    said = profanity_check.predict_prob(list(SAMPLES))
    expected = dict(zip(SAMPLES, map(float, said), strict=True))
    (folder / "words_expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
