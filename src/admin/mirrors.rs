//! SHOW MIRRORS, SHOW MIRROR, and SHOW RECORDING.

use std::sync::Arc;

use super::table::{Cell, Table};
use crate::config::words::{MIRROR_MODES, word};
use crate::config::{Mirror, MirrorTarget};
use crate::session::shadow::tally::{Difference, OTHERS, Sums};
use crate::session::shadow::taps::{Kind, Tap};
use crate::session::shared::Shared;

/// The columns of what differs, in the order of [`Difference::ALL`].
const DIFFERENCES: &str = "sqlstate:n row_count:n checksum:n row_order:n";

/// Every mirror: where to, what became of the traffic, in what the answers differed, how long both sides took.
pub fn mirrors(shared: &Shared) -> Table {
    let mut table = Table::new(&format!(
        "mirror mode share target database queued:n waiting:n waiting_bytes:n dropped:n skipped:n lost:n failed:n \
         run:n compared:n rows_compared:n {DIFFERENCES} mean_us:n mirror_mean_us:n p99_us:n mirror_p99_us:n error"
    ));
    for (tap, mirror) in all(shared) {
        let (waiting, bytes) = tap.budget.used();
        let tally = &tap.tally;
        let mut row: Vec<Cell> = vec![
            mirror.name.into(),
            word(MIRROR_MODES, &mirror.mode).into(),
            mirror.share.to_string().into(),
            match mirror.target {
                MirrorTarget::Backend(name) => format!("backend {name}"),
                MirrorTarget::Cluster(name) => format!("cluster {name}"),
            }
            .into(),
            mirror.dbname.into(),
            tally.queued.get().into(),
            waiting.into(),
            bytes.into(),
            tap.budget.dropped.get().into(),
            tally.skipped.get().into(),
            tally.lost.get().into(),
            tally.failed.get().into(),
            tally.run.get().into(),
        ];
        tally.look(|sums, _| row.extend(cells(sums)));
        let quantile = |side: usize| tally.times[side].snapshot().value_at_quantile(0.99);
        row.extend([quantile(0).into(), quantile(1).into()]);
        row.push(tally.look(|_, error| error.map(str::to_string)).into());
        table.rows.push(row);
    }
    table
}

/// What was found about each shape, of one mirror or all, those that differ most first.
pub fn shapes(shared: &Shared, name: Option<&str>) -> Table {
    let mut table = Table::new(&format!(
        "mirror fingerprint compared:n rows_compared:n {DIFFERENCES} mean_us:n mirror_mean_us:n p99_us:n \
         mirror_p99_us:n shape"
    ));
    for (tap, mirror) in all(shared).filter(|(_, mirror)| name.is_none_or(|name| mirror.name == name)) {
        let rows = tap.tally.shapes(|fingerprint, tally| {
            let known = fingerprint != OTHERS;
            let mut row: Vec<Cell> =
                vec![mirror.name.clone().into(), known.then(|| format!("{fingerprint:032x}")).into()];
            row.extend(cells(&tally.sums));
            row.extend(tally.times.iter().map(|times| Cell::from(times.value_at_quantile(0.99))));
            row.push(tally.shape.clone().into());
            row
        });
        table.rows.extend(rows);
    }
    table
}

/// The recording that there is, or the last one that there was.
pub fn recording(shared: &Shared) -> Table {
    shared.shadows.last_recording().map_or_else(|| Table::new(RECORDING), |tap| recorded(&tap))
}

const RECORDING: &str =
    "recording state literals files:n bytes:n exchanges:n dropped:n waiting:n waiting_bytes:n reason";

/// How a recording is, or how it went.
pub fn recorded(tap: &Tap) -> Table {
    let mut table = Table::new(RECORDING);
    let ((files, bytes), (waiting, waiting_bytes)) = (tap.progress.size(), tap.budget.used());
    let literals = matches!(&tap.kind, Kind::Recording(record) if record.literals);
    table.rows.push(vec![
        tap.progress.name.clone().into(),
        if tap.progress.is_over() { "over" } else { "recording" }.into(),
        if literals { "kept" } else { "left out" }.into(),
        files.into(),
        bytes.into(),
        tap.tally.run.get().into(),
        tap.budget.dropped.get().into(),
        waiting.into(),
        waiting_bytes.into(),
        tap.progress.reason().into(),
    ]);
    table
}

fn all(shared: &Shared) -> impl Iterator<Item = (Arc<Tap>, Mirror)> + use<> {
    let taps: Vec<_> = shared.shadows.taps().list.clone();
    taps.into_iter().filter_map(|tap| match &tap.kind {
        Kind::Mirror(mirror) => Some((tap.clone(), Mirror::clone(mirror))),
        Kind::Recording(_) => None,
    })
}

fn cells(sums: &Sums) -> Vec<Cell> {
    let mean = |side: usize| sums.us[side].checked_div(sums.statements).unwrap_or_default();
    let differences = Difference::ALL.map(|d| Cell::from(sums.differences[d as usize]));
    let head = [Cell::from(sums.statements), sums.rows_compared.into()];
    head.into_iter().chain(differences).chain([mean(0).into(), mean(1).into()]).collect()
}
