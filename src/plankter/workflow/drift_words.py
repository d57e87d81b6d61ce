"""Verdicts on drift in words: what it means for the counts, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from plankter.classify.drift import Comparison, Finding, Verdict

LESS_SURE = -0.05  # change of the mean score from which on it is mentioned
COMPARED = 0.8

WORDS = {
    Verdict.NONE: "The run resembles the training images: use the predictions as usual.",
    Verdict.SEASON: (
        "Other classes are common than in the training set, while images of the same classes look alike: as in another "
        "season or at another place. This is no fault. Validate some of each class that has become common, and set "
        "classify.class_mix in plankter.toml where this mix is the usual one."
    ),
    Verdict.INSTRUMENT: (
        "Images of the same classes look different from the training images. Do not publish these counts before a "
        "person has checked them. Compare the pictures with an earlier run: objective and µm per px, focus, lamp, "
        "background, dirt in the flow cell, or particles the model never saw. If the instrument is to stay as it is, "
        "validate one or two hundred particles of this run and train with them."
    ),
    Verdict.UNCLEAR: (
        "Most particles were given classes of which the sample of training images holds too few, so that whether the "
        "images changed cannot be said. Look at the pictures and validate some before you use these counts."
    ),
    Verdict.TOO_FEW: "Too few images for a judgement.",
}
SLIGHT = (
    "The images differ measurably from the training images, but no more than one campaign of the training set from "
    "another: validate a few of each class."
)


def advice_for(finding: Finding, compared: Comparison, odd: bool, changed: Sequence[str], alpha: float) -> str:
    """What a taxonomist should know and do about one run.

    Args:
        finding: after the correction.
        compared: the numbers behind it.
        odd: whether the run lies over the limit of the series.
        changed: classes whose images differ most.
        alpha: of the alarms.
    """
    parts = [SLIGHT if finding.slight and finding.verdict is Verdict.NONE else WORDS[finding.verdict]]
    if finding.verdict is Verdict.INSTRUMENT and changed:
        parts.append(f"Most changed: {', '.join(changed)}.")
    elif finding.slight and finding.verdict is not Verdict.NONE:
        parts.append(SLIGHT)
    if odd and finding.verdict is not Verdict.INSTRUMENT:
        parts.append("Its images are odd among the runs compared here: look at the farthest ones.")
    if finding.confidence_p < alpha and compared.confidence_shift < LESS_SURE:
        parts.append(
            f"The model is less sure than on training images of the same classes "
            f"(mean score {abs(compared.confidence_shift):.2f} lower): expect more errors."
        )
    if compared.compared < COMPARED and finding.verdict is not Verdict.TOO_FEW:
        parts.append(
            f"{100 * (1 - compared.compared):.0f} % of the images were given classes with too few images to compare."
        )
    return " ".join(parts)
