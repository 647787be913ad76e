//! What each operation costs in the table: every row of the surface with its valid request.

use shared::table::Meter;
use tests::requests::{Stage, rows, valid};

use crate::report::{Report, row};

pub(crate) async fn costs() -> Report {
    let mut table = vec![row([&"operation", &"", &"trips", &"calls", &"write units", &"read units"])];
    let mut stage = Stage::default();
    for op in rows() {
        let scene = stage.scene(op).await;
        let (request, caller) = (valid(op, &scene.things), scene.right_caller(op).await);
        let meter = scene.test.app.table.meter();
        meter.record();
        let answer = request.by(&caller, op).await;
        let calls = meter.take();
        assert_eq!(answer.status.as_u16(), request.status, "{}: {}", op.id, answer.text);
        // A sum of nothing is minus zero.
        let writes = calls.iter().map(|call| call.write).sum::<f64>() + 0.0;
        let reads = calls.iter().map(|call| call.read).sum::<f64>() + 0.0;
        let path = format!("`{} {}`", op.method, op.path);
        table.push(row([&op.id, &path, &Meter::trips(&calls), &calls.len(), &writes, &reads]));
    }
    Report::new().table(&table)
}
