"""Device, precision and several processes, carried by Lightning Fabric."""

import logging
import os
import warnings

from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from engine.runtime.device import choose_device, set_precision
from utils.config.schema import SectionConfig
from utils.errors import UserError

logger = logging.getLogger(__name__)


def create_fabric(config: SectionConfig) -> Fabric:
    """Fabric on the configured device, launched.

    Raises:
        UserError: The device does not exist, or a launcher started another number of processes.
    """
    device = choose_device(config.device, config.devices)
    processes = config.devices * config.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) != processes:
        raise UserError(
            f"DEVICES = {config.devices}, NUM_NODES = {config.num_nodes}: these make {processes} "
            f"processes, but torchrun started {os.environ['WORLD_SIZE']}; the numbers must agree"
        )
    precision = set_precision(config.precision, device)
    with warnings.catch_warnings():
        # Fabric's advice on SLURM and on the number of devices is not for our users.
        warnings.simplefilter("ignore")
        try:
            fabric = Fabric(
                accelerator=device.type,
                devices=config.devices if device.index is None else [device.index],
                num_nodes=config.num_nodes,
                # All buffers are constants, equal on all processes.
                strategy=DDPStrategy(broadcast_buffers=False) if processes > 1 else "auto",
                precision="bf16-mixed" if precision == "bf16" else "32-true",
            )
        except ValueError as error:
            # `fabric run` or SLURM was started with other numbers.
            raise UserError(
                f"DEVICES = {config.devices}, NUM_NODES = {config.num_nodes}: {error}"
            ) from error
        # Under `fabric run` the processes already run.
        if os.environ.get("LT_CLI_USED") != "1":
            fabric.launch()
    if fabric.global_rank:
        # Only the first process logs what all would log.
        logging.disable(logging.WARNING)
    logger.info("device %s, precision %s", fabric.device, precision)
    return fabric
