"""One host's work on a batch: it scores its shares, and the first host waits for the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from prediction_batches.object_store import ObjectStore
from prediction_contract.naming.s3_layout import receipt_name
from sagemaker_scripts.batches.previous_rows import ReadRows, is_whole, previous_files, report_left_out
from sagemaker_scripts.features.feature_files import FeatureFile
from sagemaker_scripts.features.feature_store import FeatureSet
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.scoring.division import PreviousPiece, pieces_of_files
from sagemaker_scripts.scoring.hosts import Hosts, HostWatch
from sagemaker_scripts.scoring.planning import planned_features, planned_previous
from sagemaker_scripts.scoring.score_progress import ScoreProgress
from sagemaker_scripts.scoring.scoring_processes import ScoringProcesses, core_count
from sagemaker_scripts.scoring.share_scoring import ShareWork
from sagemaker_scripts.scoring.shares import Share

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 2.0


class HostShares:
    """The shares of one host.

    Args:
        work: The part of the work that all shares have in common.
        store: The bucket.
        hosts: The job's hosts.
        watch: The messages between hosts; None for a single host.
        progress: The progress of scoring.
        is_done: Returns whether the batch is done, by this or another attempt. Hosts that find it done write
            nothing and do not report.
    """

    def __init__(
        self,
        work: ShareWork,
        store: ObjectStore,
        hosts: Hosts,
        watch: HostWatch | None,
        progress: ScoreProgress,
        *,
        is_done: Callable[[], bool],
    ) -> None:
        self._work = work
        self._store = store
        self._hosts = hosts
        self._watch = watch
        self._progress = progress
        self._is_done = is_done

    def write(self) -> None:
        """Write this host's missing shares; on the first host, also wait for the shares of all hosts.

        The wait also ends once the batch is done.

        Raises:
            HostLostError: Another host failed, or did not report in time.
            ContractError: A share cannot be scored.
        """
        plan = self._work.plan
        written = self._written()
        own = self._hosts.own_shares(plan.shares)
        left = [share for share in own if share.name not in written]
        if len(left) < len(own):
            _LOG.info("%d of %d shares are written already", len(own) - len(left), len(own))
        features = planned_features(plan, self._work.arguments, self._work.attempt, self._store)
        work = replace(self._work, kept=frozenset(bucket for share in left for bucket in share.buckets))
        with ScoringProcesses(
            work, _process_count(plan.shares, left), self._progress.count_rows
        ) as processes:
            if plan.buckets and left:
                self._divide(work, features, processes)
            done = sum(share.rows or 0 for share in own if share.name in written)
            with self._progress.step("score", plan.rows, done):
                unread = {share.name: share for share in left}
                for receipt in processes.run(left, self._meanwhile):
                    _LOG.info("share %s has %d rows", receipt.share, receipt.rows)
                    del unread[receipt.share]
                    self._drop_copies(features.features, unread.values())
                if self._watch is not None and self._hosts.is_first:
                    self._await_others(self._watch)
                    self._progress.complete()

    def _drop_copies(self, files: Sequence[FeatureFile], unread: Iterable[Share]) -> None:
        """Delete copies of files that no share needs any more, because the disk may not hold all of them."""
        needed = {span.file for share in unread for span in share.spans}
        for number, file in enumerate(files):
            if number not in needed:
                file.drop_copy(self._work.folder)

    def _divide(self, work: ShareWork, features: FeatureSet, processes: ScoringProcesses) -> None:
        """Divide features, outcomes and previous rows into buckets; each host keeps only its own buckets."""
        store = self._store
        pieces = list(pieces_of_files("features", features.features))
        previous = planned_previous(work.plan, work.arguments, store)
        if previous is not None and read_inputs(store, work.arguments).outcomes:
            pieces += pieces_of_files("outcomes", features.outcome_files)
        hosts = len(self._hosts.names)
        with self._progress.step("divide", sum(piece.rows for piece in pieces) * hosts):
            for _ in processes.run(pieces, self._meanwhile):
                pass
        self._drop_copies((*features.features, *(features.outcomes or ())), ())
        if previous is None:
            return
        for files in (previous_files(previous), previous.manifest.json_parts):
            read = ReadRows()
            with self._progress.step("divide_previous", sum(file.rows for file in files) * hosts):
                for found in processes.run([PreviousPiece(file) for file in files], self._meanwhile):
                    read.add(found)
            if is_whole(previous, files, read):
                report_left_out(previous, read.left_out)
                return
            work.joined(previous).drop_previous()

    def _meanwhile(self) -> None:
        watch = self._watch
        if watch is not None and self._hosts.is_first and watch.any_lost(self._hosts.others):
            # A host that was done before this watch began gives no sign either.
            self._others_have_work(watch)

    def _await_others(self, watch: HostWatch) -> None:
        while self._others_have_work(watch):
            time.sleep(_POLL_SECONDS)

    def _others_have_work(self, watch: HostWatch) -> bool:
        """Return whether other hosts have shares to write; raise an error if one of these hosts is lost."""
        shares = self._work.plan.shares
        # The order matters: a host writes its receipts before it reports its end.
        ended = watch.ended()
        written = self._written()
        missing = [share for share in shares if share.name not in written]
        owners = self._hosts.owners(shares, missing)
        owners.pop(self._hosts.own, None)
        if owners and self._is_done():
            return False
        watch.require_alive(owners, ended)
        return bool(owners)

    def _written(self) -> set[str]:
        """Return the names of all shares that have a receipt."""
        prefix = self._work.output.prefix
        keys = {entry.key for entry in self._store.listing(f"{prefix}receipts/")}
        return {
            share.name for share in self._work.plan.shares if f"{prefix}{receipt_name(share.name)}" in keys
        }


def _process_count(shares: Sequence[Share], left: Sequence[Share]) -> int | None:
    """Return the number of processes for the remaining shares, at most one per core; None for this process.

    Whether libraries use one thread or all depends only on the plan. With more threads they add numbers in
    another order, and a share that is scored again would differ in its last digits.
    """
    return None if len(shares) == 1 else max(1, min(core_count(), len(left)))
