"""The rows of a report's tables of metrics: names, values, intervals, what they mean."""

from engine.metrics.run_metrics import Metrics

_EXPLANATIONS = {
    "auroc": ("AUROC", "area under the ROC curve: 0.5 is chance, 1 is perfect"),
    "ap": ("average precision", "area under the precision-recall curve"),
    "f1_max": ("best F1", "at the threshold that is best for this very test set, so optimistic"),
    "sensitivity_at_95_specificity": (
        "sensitivity at 95 % specificity",
        "share of the anomalous found when at most 5 % of the normal are called anomalous",
    ),
    "dice_max": (
        "best Dice",
        "over all pixels, at the threshold that is best for this very test set",
    ),
    "dice": (
        "Dice",
        "overlap of mask and pixels above the pixel threshold; mean over anomalous volumes",
    ),
    "aupro": ("AUPRO", "mean overlap with each anomalous region, up to 30 % false positives"),
}
_LEVELS = ("image", "pixel", "volume", "patient")

MetricRow = tuple[str, float | None, tuple[float, float] | None, str]
"""Name, value, 95 % interval and explanation; value and interval are None if not defined."""


def metric_rows(metrics: Metrics) -> dict[str, MetricRow]:
    """Key → row, for the metrics in metrics.json."""
    rows = {}
    for key, value in metrics.items():
        kind, _, name = key.partition("_")
        # Most sets have neither volumes nor known patients.
        absent = value is None and kind in ("volume", "patient")
        if kind in _LEVELS and name in _EXPLANATIONS and not absent:
            title, explanation = _EXPLANATIONS[name]
            interval = metrics["intervals_95"].get(key)
            rows[key] = (f"{kind.title()} {title}", value, interval, explanation)
    return rows


def metrics_note(metrics: Metrics, *, has_masks: bool) -> str:
    """How to read the table, and why metrics are missing."""
    unit = metrics["interval_unit"]
    note = f"95 % intervals are bootstrapped by resampling the test set's {unit}s."
    if metrics["num_volumes"]:
        note += f" Those of volumes come from resampling {metrics['interval_unit_volumes']}s."
    if not (metrics["num_normal"] and metrics["num_anomalous"]):
        note += " Metrics that compare normal with anomalous images need both."
    elif not has_masks:
        note += " The set has no masks, so there are no pixel metrics."
    return note


def comparison_rows(
    metrics: Metrics,
) -> list[tuple[str, float | None, float | None, float | None, tuple[float, float] | None]]:
    """Name, model, baseline, difference and its 95 % interval."""
    rows = []
    for key in (key for key in metrics if key.startswith("difference_")):
        name = key.removeprefix("difference_")
        kind, _, short = name.partition("_")
        values = (metrics[name], metrics[f"baseline_{name}"], metrics[key])
        title = f"{kind.title()} {_EXPLANATIONS[short][0]}"
        rows.append((title, *values, metrics["intervals_95"][key]))
    return rows
