"""Centre and smooth the liver slices of BMAD, masks included, before training on them.

python preprocess_liver_dataset.py --input data/Liver --output data/Liver_processed
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from utils.errors import run_script


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, with ``arguments`` instead of those of the process."""
    options = _parser().parse_args(arguments)

    # After parsing, so that --help needs no OpenCV.
    from datasets.liver import preprocess_liver_dataset

    count = preprocess_liver_dataset(options.input, options.output, debug=options.debug)
    print(f"{options.output}: {count} images")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Cut out, centre and smooth liver slices; their masks are moved the same way.",
        epilog="Files with the same names in the output folder are replaced; others stay.",
    )
    parser.add_argument(
        "--input", type=Path, default=Path("data/Liver"), help="default: %(default)s"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("data/Liver_processed"), help="default: %(default)s"
    )
    parser.add_argument(
        "--debug", type=_positive_int, metavar="N", help="only the first N images of each folder"
    )
    return parser


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


if __name__ == "__main__":
    run_script(main)
