"""A test in a table for the terminal: metrics of images and pixels, threshold, counts, files."""

from engine.metrics.run_metrics import Metrics
from utils.run_files import TestFiles

_ROWS = {
    "auroc": "AUROC",
    "ap": "AP",
    "f1_max": "best F1",
    "sensitivity_at_95_specificity": "sensitivity at 95 % specificity",
    "dice_max": "best Dice",
    "aupro": "AUPRO",
}
_OF_VOLUMES = {
    "volume_auroc": "AUROC of volumes",
    "volume_ap": "AP of volumes",
    "volume_dice": "mean Dice of anomalous volumes",
    "patient_auroc": "AUROC of patients",
}
_OF_BASELINE = {"baseline": "AUROC of the baseline", "difference": "AUROC, model minus baseline"}
_COLUMNS = "{:32}{:>8}  {:18}{:>8}  {}"


def summary(metrics: Metrics, files: TestFiles) -> str:
    """The metrics for people, and the files to read next."""
    lines = [
        "",
        f"{metrics['num_images']} images: {metrics['num_normal']} normal, "
        f"{metrics['num_anomalous']} anomalous",
        _COLUMNS.format("", "images", "95 % interval", "pixels", "95 % interval"),
    ]
    for name, title in _ROWS.items():
        keys = (f"image_{name}", f"pixel_{name}")
        cells = [cell for key in keys for cell in _cells(metrics, key)]
        lines.append(_COLUMNS.format(title, *cells))
    for kind, title in _OF_BASELINE.items():
        if f"{kind}_image_auroc" in metrics:
            keys = (f"{kind}_image_auroc", f"{kind}_pixel_auroc")
            cells = [cell for key in keys for cell in _cells(metrics, key)]
            lines.append(_COLUMNS.format(title, *cells))
    for key, title in _OF_VOLUMES.items():
        if metrics.get(key) is not None:
            value, bounds = _cells(metrics, key)
            lines.append(f"{title:32}{value:>8}  {bounds}")
    volumes = [files.volumes] if metrics["num_volumes"] else []
    tables = (files.report, files.scores, *volumes, files.metrics)
    pictures = (files.cases, files.roc, files.histogram)
    lines += [_threshold(metrics), "", *map(str, (*tables, *pictures))]
    return "\n".join(line.rstrip() for line in lines)


def _cells(metrics: Metrics, key: str) -> tuple[str, str]:
    """A metric and its interval; a dash where a class or the masks are missing."""
    if key not in metrics:
        return "", ""
    interval = metrics["intervals_95"].get(key)
    bounds = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
    return "-" if metrics[key] is None else f"{metrics[key]:.4f}", bounds


def _threshold(metrics: Metrics) -> str:
    if metrics["threshold"] is None:
        return "no threshold, so no verdicts"
    found = metrics["confusion"]
    calibration = metrics["calibration"]
    return (
        f"threshold {metrics['threshold']:.6g}, learnt on {calibration['val_data_path']} "
        f"({calibration['method']}):\n"
        f"  {found['tp']} of {metrics['num_anomalous']} anomalous images found, "
        f"{found['fp']} of {metrics['num_normal']} normal ones called anomalous"
    )
