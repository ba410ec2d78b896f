"""The validator's loop: one round after the other, resumed from the event table wherever it was."""

import asyncio
import logging

from ralph.chain.waiting import reach
from ralph.errors import InfrastructureError
from ralph.protocol.rounds import window
from ralph.records.history import History
from ralph.validator.round import RoundWork
from ralph.validator.services import Services
from ralph.validator.throne import Registrar

logger = logging.getLogger(__name__)

RETRY_S = 2.0


class Validator:
    """A long-lived validator over one event table."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._history = History(services.store, services.profile, services.hotkey.key_id)
        self._registrar = Registrar(services=services, history=self._history)

    async def run(self, stop: asyncio.Event, *, rounds: int | None = None) -> None:
        """Run until ``stop`` is set, or until ``rounds`` rounds are recorded.

        What fails on our side is tried again after a pause; everything else ends the process with its error,
        and the next start resumes at the same step.
        """
        self._registrar.publish_genesis()
        self._resume()
        while not stop.is_set():
            try:
                await self._settle()
                if rounds is not None and len(self._history.entries) >= rounds:
                    return
                await self._round(self._history.throne.round_index + 1)
            except InfrastructureError as error:
                logger.warning("round is held and tried again in %.0f s: %s", RETRY_S, error)
                await asyncio.sleep(RETRY_S)

    def _resume(self) -> None:
        """Read the published history up to the last anchor of ours that a Record has."""
        anchored = [event for event in self._services.events.all("anchored") if event.key.endswith("/record")]
        if anchored:
            self._history.read(anchored[-1].payload)
        recorded = len(self._services.events.all("record"))
        logger.info("resuming: %d rounds published, %d recorded", len(self._history.entries), recorded)

    async def _settle(self) -> None:
        """Do what follows from the newest published Record: the crown or the demotion, the weights, the end of its round."""
        if not self._history.entries:
            return
        signed = self._history.entries[-1].signed
        blocks = window(self._services.profile.rules.rounds, signed.record.round)
        self._registrar.crown(signed, blocks)
        self._registrar.demote(signed, blocks)
        await self._registrar.reconcile_weights()
        await reach(self._services.chain, blocks.end)

    async def _round(self, index: int) -> None:
        blocks = window(self._services.profile.rules.rounds, index)
        throne = self._history.throne
        gathered = await RoundWork(self._services, self._history.entries, throne, blocks).gather()
        await self._registrar.commit_measurements(gathered, blocks)
        signed = self._registrar.record(gathered, throne, blocks)
        await self._registrar.publish(signed, blocks)
        for outcome in signed.record.outcomes:
            logger.info("round %d: %s is %s (%s): %s", index, outcome.case.hex()[:16], outcome.state, outcome.reason, outcome.detail)
